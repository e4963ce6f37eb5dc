"""The hardware that a process computes on: device, precision, threads."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lx.errors import LxError
from lx.system.processes import ENDPOINT

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MOST_THREADS = 1024  # with a million, OpenMP ends the process
PRECISIONS = {
    "32-true": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "bf16-true": torch.bfloat16,
    "64-true": torch.float64,
}
"""Lightning's names, and the dtype in which matrix products are computed."""


@dataclass(frozen=True)
class Hardware:
    """Where a process computes, with every ``auto`` resolved.

    Attributes:
        accelerator: ``cpu``, ``cuda`` or ``mps``.
        precision: Lightning's name, never ``auto``.
        name: of the device, for display.
        threads: CPU threads of arithmetic.
        index: of this process's device among those it sees; None: the only one.
    """

    accelerator: str
    precision: str
    name: str
    threads: int
    index: int | None = None

    @property
    def device(self) -> torch.device:
        """The torch device of this process."""
        return torch.device(self.accelerator) if self.index is None else torch.device(self.accelerator, self.index)

    @property
    def product_dtype(self) -> torch.dtype:
        """The dtype of matrix products, and of the activations between them."""
        return PRECISIONS[self.precision]

    @property
    def pad_multiple(self) -> int:
        """What to round lengths up to: on CUDA few shapes, and rows of attention scores that need no copy to align."""
        return 8 if self.accelerator == "cuda" else 1

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """The lower dtype of matrix products in mixed precision; None without autocast."""
        return self.product_dtype if self.precision.endswith("mixed") else None

    def autocast(self, cache: bool = True) -> torch.autocast:
        """Compute matrix products in the lower dtype while a block runs; ``cache`` keeps weights converted."""
        dtype = self.autocast_dtype
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=cache)


def resolve(
    accelerator: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    local_rank: int | None = None,
    local_world_size: int = 1,
) -> Hardware:
    """Resolve ``auto`` on this machine, and set the number of CPU threads.

    Args:
        accelerator: ``auto``, ``cpu``, ``gpu``, ``cuda`` or ``mps``.
        precision: Lightning's name, or ``auto``.
        threads: CPU threads of this process; None: an equal share of the cores for every process on this machine.
        local_rank: of this process among those on this machine, which chooses its GPU; None: the current one.
        local_world_size: number of processes on this machine.

    Raises:
        LxError: the machine lacks the accelerator, or has fewer GPUs than processes, a name is unknown, or ``threads``
            is no number of threads.
    """
    kind = accelerator_kind(accelerator)
    _keep_freed_memory()
    if precision != "auto" and precision not in PRECISIONS:
        raise LxError(f"hardware.precision={precision} is not known: choose auto or one of {', '.join(PRECISIONS)}")
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= _MOST_THREADS):
        raise LxError(f"threads must be a whole number from 1 to {_MOST_THREADS}, not {threads!r}")
    if threads is not None or local_world_size > 1:
        torch.set_num_threads(threads or max(1, num_cores() // local_world_size))
    chosen = precision if precision != "auto" else ("bf16-mixed" if has_native_bf16(kind) else "32-true")
    index = _gpu_index(local_rank, local_world_size) if kind == "cuda" and local_rank is not None else None
    if kind == "cuda":
        # In torch 2.11 cuDNN's attention has another dropout than asked for, and plans anew for every (batch, length).
        torch.backends.cuda.enable_cudnn_sdp(False)
    return Hardware(kind, chosen, _device_name(kind), torch.get_num_threads(), index)


def _gpu_index(local_rank: int, local_world_size: int) -> int:
    if torch.cuda.device_count() == 1:  # under srun each process may see its own alone
        return 0
    require_gpus(local_world_size)
    return local_rank


def require_gpus(number: int) -> None:
    """Refuse to start more processes on this machine than it has GPUs.

    Raises:
        LxError: it has fewer.
    """
    if number > (available := torch.cuda.device_count()):
        raise LxError(
            f"hardware.devices={number}: torch finds {available} GPU{'s' if available != 1 else ''} on this machine; "
            "give fewer, or hardware.devices=auto for all"
        )


def num_devices(settings: Mapping[str, Any]) -> int:
    """Return how many processes the settings of ``hardware`` start on this machine.

    Raises:
        LxError: it has fewer GPUs.
    """
    on_gpus = accelerator_kind(settings["accelerator"]) == "cuda"
    if settings["devices"] == "auto":
        return torch.cuda.device_count() if on_gpus else 1
    if on_gpus:
        require_gpus(settings["devices"])
    return int(settings["devices"])


def rendezvous_endpoint(settings: Mapping[str, Any]) -> str:
    """Return HOST:PORT where the machines that the settings of ``hardware`` name meet, or raise LxError."""
    if settings["num_nodes"] == 1:
        return "localhost:0"  # 0: the system picks a port
    endpoint = os.environ.get(ENDPOINT) or settings["rdzv_endpoint"]
    if not endpoint:
        raise LxError(
            f"hardware.num_nodes={settings['num_nodes']}: the machines must know where to meet: give the same "
            "hardware.rdzv_endpoint=HOST:PORT, one of the machines and a free port there, to each"
        )
    return str(endpoint)


def _keep_freed_memory() -> None:
    """Keep freed memory in the process instead of returning it to the system.

    Every training step allocates in its forward pass what its backward pass frees. By default glibc returns that
    memory, and the next step pays for each page anew, which on a CPU costs more than the arithmetic of many operations.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None  # musl has none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 2**30)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def is_busy() -> bool:
    """Return whether far more threads than there are cores wanted to run in the last minute."""
    return os.getloadavg()[0] > 1.5 * num_cores()


def num_cores() -> int:
    """Number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_native_bf16(accelerator: str) -> bool:
    """Whether the chip computes in bf16 natively; emulation is slower than float32."""
    if accelerator == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if accelerator == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def accelerator_kind(name: str) -> str:
    """Map ``hardware.accelerator`` to ``cpu``, ``cuda`` or ``mps``.

    Raises:
        LxError: this machine lacks the accelerator, or the name is unknown.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(kind for kind, is_available in available.items() if is_available)
    kind = {"gpu": "cuda"}.get(name, name)
    if kind not in available:
        raise LxError(f"hardware.accelerator={name} is not known: choose auto, cpu, gpu or mps")
    if not available[kind]:
        raise LxError(
            f"hardware.accelerator={name}: this machine has none that torch can use; try hardware=cpu, or "
            "hardware=ddp_cpu for several processes"
        )
    return kind


def _device_name(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    if kind == "mps":
        return "Apple GPU"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{next(iter(models), platform.processor()) or platform.machine()}, {os.cpu_count()} cores"
