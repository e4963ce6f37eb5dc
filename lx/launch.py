"""The one door to a run: a run directory is made, and a worker process trains in it."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config import resolved
from lx.errors import LxError
from lx.run import Result, RunDirectory, default_run_dir

if TYPE_CHECKING:
    from omegaconf import DictConfig

# What launchers leave in the environment for their ranks: a run of its own must not inherit it.
_SCRUBBED = (
    "LOCAL_RANK",
    "RANK",
    "NODE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "PL_GLOBAL_SEED",
)
_SCRUBBED_PREFIXES = ("MASTER_", "TORCHELASTIC_")
_PACKAGES = (
    "lx",
    "torch",
    "lightning",
    "hydra-core",
    "torchmetrics",
    "tokenizers",
    "datasets",
    "wandb",
    "numpy",
)


def train(cfg: DictConfig, overrides: Sequence[str] = ()) -> Result:
    """Train in this process, as ``lx train launch=inline`` does.

    Args:
        cfg: from :func:`lx.compose`.
        overrides: the overrides that made it, for the record.

    Returns:
        How the run ended; its directory is ``result.run_dir``.

    Raises:
        LxError: bad input or configuration; no run directory is left behind.
    """
    from lx.worker import train_in

    return train_in(prepare_run(cfg, overrides))


def launch(cfg: DictConfig, overrides: Sequence[str] = ()) -> tuple[RunDirectory, int]:
    """Make a run directory and train in it, in a worker process unless ``launch=inline``.

    Returns:
        The run directory and the exit code of the run.

    Raises:
        LxError: the run directory cannot be made.
    """
    run = prepare_run(cfg, overrides)
    if cfg.launch == "inline":
        from lx.worker import execute

        return run, execute(run)
    return run, _wait(run, [sys.executable, "-m", "lx.worker", str(run.path)])


def prepare_run(cfg: DictConfig, overrides: Sequence[str]) -> RunDirectory:
    """Make the run directory of a configuration, with ``config.yaml`` and ``environment.json`` in it.

    Raises:
        LxError: it holds a run already, or cannot be written.
    """
    config = resolved(cfg)
    run = RunDirectory(Path(config["run_dir"]) if config["run_dir"] else default_run_dir(config["name"]))
    run.create()
    run.write_config({**config, "run_dir": str(run.path)})
    run.write_json(run.environment, _environment(overrides))
    return run


def _environment(overrides: Sequence[str]) -> dict[str, Any]:
    from lx.tracking.git import revision

    return {
        "overrides": list(overrides),
        "revision": revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _wait(run: RunDirectory, command: list[str]) -> int:
    """Run the worker in a process group of its own, hand signals on to it, and return its exit code."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in _SCRUBBED and not name.startswith(_SCRUBBED_PREFIXES)
    }
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, start_new_session=True)
    previous = {
        number: signal.signal(number, lambda received, frame: worker.send_signal(received))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        code = worker.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if code < 0:
        error = f"the worker process was killed by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            error += " (out of memory?)"
        run.write_result(Result(status="failed", run_dir=str(run.path), error=error))
        raise ChildProcessError(error)
    return code


def objective_of(run: RunDirectory, code: int) -> float | None:
    """What a sweeper is told about a trial.

    Raises:
        LxError: the trial failed.
    """
    if code != 0:
        raise LxError(f"the run in {run.path} ended with exit code {code}: see {run.log}")
    return run.read_result().objective
