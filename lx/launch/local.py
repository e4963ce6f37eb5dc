"""Start or resume a run: make its directory, then train in it, in a worker process or where ``launch`` says."""

from __future__ import annotations

import json
import os
import platform
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from lx.config.compose import compose, resolved
from lx.errors import LxError, shorten
from lx.launch.command import has_ranks, worker_command
from lx.run.directory import RunDirectory
from lx.run.ending import record_end
from lx.run.paths import default_run_dir
from lx.system.files import atomic_write_json
from lx.system.output import say
from lx.system.processes import child_environment, name_of_signal, report_exit
from lx.system.signals import EXIT_CODES, handled_by
from lx.tracking.wandb_agent import agent_run, end_of_stopped, inside_agent

if TYPE_CHECKING:
    from omegaconf import DictConfig

_KILLED_ON_REQUEST = -1000  # stands for the exit code of a process that was killed after a second Ctrl-C
_STOPPED = {_KILLED_ON_REQUEST: signal.SIGINT, -signal.SIGINT: signal.SIGINT, -signal.SIGTERM: signal.SIGTERM}
_PACKAGES = ("lx", "torch", "lightning", "hydra-core", "torchmetrics", "tokenizers", "datasets", "wandb", "numpy")


def launch(cfg: DictConfig, overrides: Sequence[str] = (), config_dir: str | None = None) -> tuple[RunDirectory, int]:
    """Train in a new run directory, or go on in the one that ``resume=true`` names; return it and the exit code.

    Args:
        cfg: composed and checked.
        overrides: those that made it, for ``environment.json``.
        config_dir: the folder of config groups that the command named, for ``environment.json``; None: it named none.
    """
    if inside_agent() and "submit" in cfg.hardware:
        raise LxError("hardware=slurm inside a W&B agent: submit a job that runs `wandb agent` instead")
    run = prepare_run(cfg, overrides, config_dir)
    if run.resumption.exists() and _has_finished(run, run.next_config()):
        run.resumption.unlink()
        return run, 0
    return run, start(run)


def resume(
    run_dir: str | Path, overrides: Sequence[str] = (), trust: Sequence[str] = (), *, pruned: bool = False
) -> int:
    """Resume an interrupted run, or make a finished one longer, and return its exit code.

    A run that was a trial of a sweep is no longer judged by it.

    Args:
        run_dir: its directory.
        overrides: what is to change; see :func:`lx.run.resume_config.resumed_config`.
        trust: packages whose classes may be built from the run's configuration.
        pruned: whether to go on even if its sweep has pruned it.

    Raises:
        LxError: not a run, one that was refused or pruned, or overrides that would make it another run.
    """
    from lx.run.lock import require_idle
    from lx.run.resume_config import resumed_config

    run = RunDirectory(Path(run_dir))
    require_idle(run)
    status = run.read_result().status if run.result.exists() else None
    if status == "pruned" and not pruned:
        raise LxError(f"{run.path} was pruned by its sweep or by W&B; to go on: lx resume {run.quoted} --pruned")
    config = resumed_config(run, overrides, trust)
    if _has_finished(run, config):
        return 0
    run.propose(config)
    return start(run)


def _has_finished(run: RunDirectory, config: dict[str, Any]) -> bool:
    """Return whether a run has finished and the configuration does not make it longer; if so, print a message."""
    if not run.result.exists() or (result := run.read_result()).status != "finished":
        return False
    if result.steps == 0:
        say(f"{run.path} has finished: nothing to do. Its model takes no training steps, so it cannot be made longer")
        return True
    before = run.read_config()["trainer"]
    if any(config["trainer"][key] != before[key] for key in ("max_epochs", "max_steps")):
        return False
    key = "max_epochs" if before["max_steps"] is None else "max_steps"
    say(f"{run.path} has finished: nothing to do. To train longer: lx resume {run.quoted} trainer.{key}=+2")
    return True


def start(run: RunDirectory) -> int:
    """Train in a run directory, in worker processes or where its ``launch`` says, and return the exit code."""
    config = run.next_config()
    if config["launch"] == "prepare":
        say(f"{run.path} is ready: start `python -m lx.worker {run.quoted}` for each rank, with torchrun or srun")
        return 0
    if "submit" in config["hardware"]:
        from lx.launch.slurm import submit

        try:
            return submit(run, config)
        except LxError:
            run.resumption.unlink(missing_ok=True)
            raise
    try:
        if config["launch"] == "inline":
            from lx.training.worker import execute

            return execute(run)
        return _wait(run, worker_command(run, config))
    finally:
        run.resumption.unlink(missing_ok=True)  # still there if the run could not be started


def run_on_ranks(run_dir: str | Path, overrides: Sequence[str], command: Sequence[str]) -> int | None:
    """Run a command of ``lx`` on several ranks of this machine, if the overrides of ``hardware`` ask for them.

    Returns:
        The exit code; None if the caller has to do the work, because it is one of the ranks, or the only process.

    Raises:
        LxError: the settings ask for several machines.
    """
    if "RANK" in os.environ or not overrides:
        return None
    settings = resolved(compose(overrides))["hardware"]
    if not has_ranks(settings):
        return None
    if settings["num_nodes"] > 1:
        raise LxError(f"lx {command[0]} works on one machine: hardware.num_nodes must be 1")
    words = [sys.executable, "-m", "lx.launch.torchrun", str(run_dir), json.dumps(settings), *command]
    return _forward_signals(subprocess.Popen(words, env=child_environment(), start_new_session=True))


def prepare_run(cfg: DictConfig, overrides: Sequence[str], config_dir: str | None = None) -> RunDirectory:
    """Make the run directory of a configuration, with ``config.yaml`` and ``environment.json`` in it.

    With ``resume=true`` a directory that holds this run already is reused. If several machines share the directory, the
    first one makes it.

    Raises:
        LxError: it holds a run already, or cannot be written.
    """
    config = resolved(cfg)
    run = RunDirectory(Path(config["run_dir"]) if config["run_dir"] else default_run_dir(config["name"]))
    config["run_dir"] = str(run.path)
    if config["resume"] and run.config.exists():
        from lx.run.lock import require_idle
        from lx.run.resume_config import changed_keys, with_choices

        require_idle(run)
        config = with_choices(run, config)
        if changed := changed_keys(run, config):
            raise LxError(f"resume=true: {run.path} holds another run; these settings differ: {shorten(changed)}")
        run.propose(config)
        return run
    try:
        run.create()
    except LxError:
        if config["hardware"]["num_nodes"] > 1 and run.wait_for(config):
            return run
        raise
    atomic_write_json(run.environment, _environment(overrides, config_dir))
    run.write_config(config)
    return run


def _environment(overrides: Sequence[str], config_dir: str | None) -> dict[str, Any]:
    from lx.system.git import revision

    agent, packages = agent_run(), {}
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            packages[name] = version(name)
    return {
        "run_id": agent.get("run_id") or secrets.token_hex(4),
        "wandb": agent,
        "overrides": list(overrides),
        "config_dir": config_dir,
        "revision": revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
    }


def _wait(run: RunDirectory, command: list[str]) -> int:
    """Train in a process group of its own; return the exit code."""
    worker = subprocess.Popen(command, env=child_environment(), stdin=subprocess.DEVNULL, start_new_session=True)
    code = _forward_signals(worker)
    if code >= 0:
        return code
    go_on = f"to go on: lx resume {run.quoted}"
    if code in _STOPPED:  # before its imports are done, a worker does not handle signals itself
        status, exit_code = end_of_stopped(EXIT_CODES[_STOPPED[code]])
        error = f"stopped by {_STOPPED[code].name}"
        record_end(run, status, error)
        return report_exit(f"{error}; {go_on}{' --pruned' if status == 'pruned' else ''}", exit_code)
    error = f"the worker process was killed by {name_of_signal(code)}; {go_on}"
    record_end(run, "failed", error)
    raise ChildProcessError(error)


def _forward_signals(worker: subprocess.Popen[bytes]) -> int:
    """Wait for a process and return its exit code; forward signals to it, but kill it at the second SIGINT."""
    interrupts = 0

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        if interrupts > 1:
            worker.kill()
        else:
            worker.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)

    with handled_by(forward, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
        code = worker.wait()
    return _KILLED_ON_REQUEST if interrupts > 1 and code == -signal.SIGKILL else code
