"""Divide the cores or GPUs of this machine among the runs that train at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lx.system.hardware import num_cores


@dataclass(frozen=True)
class Slot:
    """Room for one run.

    Attributes:
        cpus: the cores that it may use; none: all.
        environment: variables of its process, which choose the GPU.
    """

    cpus: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, by number, UUID or MIG name; without torch, which would occupy one."""
    if (listed := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in listed.split(",") if name.strip()]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(index) for index, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU ")]


def slots_for(n_jobs: int, per_gpu: int, hardware: Mapping[str, Any]) -> list[Slot]:
    """Return ``n_jobs`` slots, for as many runs at the same time.

    Args:
        n_jobs: number of runs at the same time.
        per_gpu: number of runs that share a GPU.
        hardware: the node of the first trial's configuration. A run on several devices may use all of the machine's.
    """
    if "submit" in hardware:
        return [Slot()] * n_jobs  # jobs of a cluster compute elsewhere
    gpus = visible_gpus() if hardware["accelerator"] in ("auto", "gpu", "cuda") else []
    if gpus and hardware["devices"] == 1:
        gpus_of_jobs = [gpu for gpu in gpus for _ in range(per_gpu)]
        return [
            Slot(environment={"CUDA_VISIBLE_DEVICES": gpus_of_jobs[job % len(gpus_of_jobs)]}) for job in range(n_jobs)
        ]
    return [Slot(cpus=share) for share in _core_shares(n_jobs)]


def _core_shares(n_jobs: int) -> Sequence[tuple[int, ...]]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if n_jobs == 1 or len(cores) < n_jobs:
        return [()] * n_jobs
    return [tuple(cores[job * len(cores) // n_jobs : (job + 1) * len(cores) // n_jobs]) for job in range(n_jobs)]


def threads_each(n_jobs: int) -> int:
    """Return the number of CPU threads for each of ``n_jobs`` runs at the same time."""
    return max(1, num_cores() // n_jobs)
