"""Starts the runs of a sweep: composes their configuration, makes their directories, and starts what trains there."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config.compose import compose_with
from lx.launch.command import has_ranks, worker_command
from lx.launch.forkserver import ForkServer
from lx.launch.local import prepare_run
from lx.launch.slurm_queue import SlurmQueue
from lx.sweep.plan import Plan
from lx.sweep.scheduler import Process
from lx.sweep.slots import Slot
from lx.sweep.space import Params, overrides_of
from lx.sweep.trials import Replicate
from lx.system.processes import child_environment

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


class Starter:
    """Starts runs, on this machine or as jobs of a cluster.

    Args:
        plan: of the sweep.
        hydra: an open session.
        threads: CPU threads of each run.
        name: of the sweep, by which W&B groups its runs.
    """

    def __init__(self, plan: Plan, hydra: Hydra, threads: int, name: str) -> None:
        self._plan = plan
        self._name = name
        self._hydra = hydra
        self._threads = threads
        self._server: ForkServer | None = None
        self._queue: SlurmQueue | None = None
        if not ("submit" in plan.hardware or has_ranks(plan.hardware)):
            self._server = ForkServer()  # it imports while the first run is composed

    def prepare(self, replicate: Replicate, params: Params, seconds_left: float) -> None:
        """Make the directory of a run, unless it exists already.

        Args:
            replicate: the run.
            params: of its trial.
            seconds_left: how long it may train at most; infinite: as long as its configuration says.

        Raises:
            LxError: training would refuse its configuration, or its directory cannot be made.
        """
        run = replicate.run
        replicate.output.parent.mkdir(parents=True, exist_ok=True)
        if not run.config.exists():
            run.discard()  # what is left of a process that was killed while it made the directory
            self._compose(replicate, params, seconds_left)

    def start(self, replicate: Replicate, slot: Slot) -> Process:
        """Start a run that is prepared, or go on with one that was interrupted."""
        run = replicate.run
        config = run.read_config()
        if "submit" in config["hardware"]:
            return self._start_job(replicate, config)
        run.result.unlink(missing_ok=True)
        if has_ranks(config["hardware"]):
            environment = {**child_environment(), **slot.environment}
            return _start_command(worker_command(run, config), replicate.output, environment, slot.cpus)
        self._server = self._server or ForkServer()
        return self._server.start(run.path, replicate.output, slot.environment, list(slot.cpus))

    def _start_job(self, replicate: Replicate, config: dict[str, Any]) -> Process:
        self._queue = self._queue or SlurmQueue()
        job = self._queue.start(replicate.run, config)
        replicate.output.unlink(missing_ok=True)
        replicate.output.symlink_to(os.path.relpath(job.log, replicate.output.parent))
        return job

    def _compose(self, replicate: Replicate, params: Params, seconds_left: float) -> None:
        overrides = [*self._plan.space.fixed, *overrides_of(params), f"seed={replicate.seed}"]
        if not any(text.startswith("hardware.threads=") for text in overrides):
            overrides.append(f"hardware.threads={self._threads}")
        cfg = compose_with(self._hydra, [*overrides, "launch=process"])
        cfg.run_dir = str(replicate.run.path)
        cfg.name = f"{cfg.name}-{replicate.trial}"
        cfg.objective.latency |= self._plan.measures_latency
        if math.isfinite(seconds_left):
            cfg.trainer.max_minutes = min(cfg.trainer.max_minutes or math.inf, seconds_left / 60)
        if (wandb := (cfg.logger or {}).get("wandb")) is not None:
            wandb.group, wandb.job_type = wandb.group or self._name, wandb.job_type or "trial"
        prepare_run(cfg, overrides)

    def close(self) -> None:
        """End the processes on this machine that still run."""
        if self._server is not None:
            self._server.close()


def _start_command(command: list[str], output: Path, environment: dict[str, str], cpus: tuple[int, ...]) -> Process:
    """Start a run of several ranks, which the fork server cannot start, in a session of its own."""
    own_cpus = os.sched_getaffinity(0) if cpus else None
    with output.open("ab") as file:
        if cpus:
            os.sched_setaffinity(0, cpus)  # the new process inherits it
        try:
            return subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        finally:
            if own_cpus is not None:
                os.sched_setaffinity(0, own_cpus)
