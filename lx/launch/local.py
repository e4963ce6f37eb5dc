"""The one door to a run: a run directory is made, and a worker process trains in it."""

from __future__ import annotations

import json
import os
import platform
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lx.config.compose import compose, resolved
from lx.errors import LxError
from lx.run.directory import Result, RunDirectory, default_run_dir
from lx.system.processes import child_environment, name_of_signal, tell

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OBEYED = -1000  # no process ends so: it was killed because a person insisted
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
    from lx.training.worker import train_in

    return train_in(prepare_run(cfg, overrides))


def launch(cfg: DictConfig, overrides: Sequence[str] = ()) -> tuple[RunDirectory, int]:
    """Make a run directory, or find the one that ``resume=true`` names, and train in it.

    Returns:
        The run directory and the exit code of the run.

    Raises:
        LxError: the run directory cannot be made.
    """
    run = prepare_run(cfg, overrides)
    return run, start(run)


def resume(run_dir: str | Path, overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> int:
    """Go on with an interrupted run, or make a finished one longer.

    Args:
        run_dir: its directory.
        overrides: what is to change; see :func:`lx.run.resume_config.apply_resume_overrides`.
        trust: packages whose classes may be built from the run's configuration.

    Returns:
        The exit code of the run.

    Raises:
        LxError: not a run, one that was refused, or overrides that would make it another run.
    """
    from lx.run.lock import require_idle
    from lx.run.resume_config import apply_resume_overrides

    run = RunDirectory(Path(run_dir))
    require_idle(run)
    apply_resume_overrides(run, overrides, trust)
    finished = run.result.exists() and run.read_result().status == "finished"
    if finished and not any(override.startswith("trainer.max_") for override in overrides):
        print(f"{run.path} has finished: nothing to do. To train longer: lx resume {run.path} trainer.max_epochs=+2")
        return 0
    run.result.unlink(missing_ok=True)
    return start(run)


def start(run: RunDirectory) -> int:
    """Train in a run directory: in worker processes of its own, or where its ``launch`` says.

    Returns:
        The exit code of the run.
    """
    config = run.read_config()
    if config["launch"] == "prepare":
        print(f"{run.path} is ready: start `python -m lx.worker {run.path}` for each rank, with torchrun or srun")
        return 0
    if config["launch"] == "inline":
        from lx.training.worker import execute

        return execute(run)
    if "submit" in config["hardware"]:
        from lx.launch.slurm import submit

        return submit(run, config)
    return _wait(run, worker_command(run, config))


def worker_command(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """What trains a run on this machine: one process, or the launcher of several ranks."""
    module = "lx.launch.torchrun" if _has_ranks(config["hardware"]) else "lx.training.worker"
    return [sys.executable, "-m", module, str(run.path)]


def spread(run_dir: str | Path, overrides: Sequence[str], command: Sequence[str]) -> int | None:
    """Run a command of ``lx`` on several ranks of this machine, if there are to be several.

    Args:
        run_dir: the run directory that it works in.
        overrides: of ``hardware``.
        command: its name and arguments.

    Returns:
        The exit code; None: it is this process's to do, as one of the ranks or alone.
    """
    if "RANK" in os.environ or not overrides:
        return None
    settings = resolved(compose(overrides))["hardware"]
    if not _has_ranks(settings):
        return None
    if settings["num_nodes"] > 1:
        raise LxError(f"lx {command[0]} works on one machine: hardware.num_nodes must be 1")
    words = [sys.executable, "-m", "lx.launch.torchrun", str(run_dir), json.dumps(settings), *command]
    return _hand_signals_on(subprocess.Popen(words, env=child_environment(), start_new_session=True))


def _has_ranks(hardware: dict[str, Any]) -> bool:
    return bool(hardware["devices"] != 1 or hardware["num_nodes"] > 1 or hardware["strategy"] != "auto")


def prepare_run(cfg: DictConfig, overrides: Sequence[str]) -> RunDirectory:
    """Make the run directory of a configuration, with ``config.yaml`` and ``environment.json`` in it.

    With ``resume=true`` a directory that holds this very run already is taken as it is. The second and further machines
    of a run, which share its directory, find it made by the first.

    Raises:
        LxError: it holds a run already, or cannot be written.
    """
    config = resolved(cfg)
    run = RunDirectory(Path(config["run_dir"]) if config["run_dir"] else default_run_dir(config["name"]))
    config["run_dir"] = str(run.path)
    if config["resume"] and run.config.exists():
        from lx.run.lock import require_idle
        from lx.run.resume_config import changed_keys

        require_idle(run)
        if changed := changed_keys(run, config):
            raise LxError(f"resume=true: {run.path} holds another run; these settings differ: {', '.join(changed)}")
        run.write_config(config)
        return run
    try:
        run.create()
    except LxError:
        if config["hardware"]["num_nodes"] > 1 and run.wait_for(config):
            return run
        raise
    run.write_json(run.environment, _environment(overrides))
    run.write_config(config)
    return run


def _environment(overrides: Sequence[str]) -> dict[str, Any]:
    from lx.system.git import revision

    return {
        "run_id": secrets.token_hex(4),
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
    """Train in a process group of its own; its exit code."""
    worker = subprocess.Popen(command, env=child_environment(), stdin=subprocess.DEVNULL, start_new_session=True)
    code = _hand_signals_on(worker)
    if code >= 0:
        return code
    if code == _OBEYED:
        run.write_result(Result(status="stopped", run_dir=str(run.path), error="stopped by SIGINT"))
        return tell(f"stopped by SIGINT; to go on: lx resume {run.path}", 130)
    error = f"the worker process was killed by {name_of_signal(code)}; to go on: lx resume {run.path}"
    run.write_result(Result(status="failed", run_dir=str(run.path), error=error))
    raise ChildProcessError(error)


def _hand_signals_on(worker: subprocess.Popen[bytes]) -> int:
    """Wait for a process, handing on the signals that ask this one to end; its exit code, or ``_OBEYED``."""
    interrupts = 0

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            worker.kill()
        else:
            worker.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    previous = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        code = worker.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return _OBEYED if interrupts > 1 and code == -signal.SIGKILL else code


def objective_of(run: RunDirectory, code: int) -> float | None:
    """What a sweeper is told about a trial; None: it is only prepared or submitted yet.

    Raises:
        LxError: the trial failed.
    """
    if code != 0:
        raise LxError(f"the run in {run.path} ended with exit code {code}: see {run.log}")
    return run.read_result().objective if run.result.exists() else None
