"""Starts the ranks of a run on this machine, through torchrun's launcher: ``python -m lx.launch.torchrun RUN``.

With ``HARDWARE COMMAND ...`` behind it, the settings as JSON, the ranks run another command of ``lx`` instead. One such
process runs on every machine that takes part. It prints one message if the run fails, and ends when all ranks have.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from lx.system.gc import freeze_after_imports

with freeze_after_imports(__name__ == "__main__"):
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from lx.errors import LxError
    from lx.run.directory import Result, RunDirectory
    from lx.run.lock import in_use
    from lx.system import hardware
    from lx.system.processes import ENDPOINT, child_environment, end_with_parent, name_of_signal, tell
    from lx.system.signals import EXIT_CODES

_SHUTDOWN_S = 25  # that ranks have to save and end after a signal, or after one of them failed


def main() -> int:
    """Entry point; returns the exit code of the run, or of the command."""
    end_with_parent()
    path, *words = sys.argv[1:]
    run = RunDirectory(Path(path))
    try:
        if not words:
            return train_on_ranks(run)
        settings, *command = words
        ending = start_ranks(run, json.loads(settings), ["lx", *command])
    except LxError as error:
        return tell(f"error: {error}", error.exit_code)
    return tell(ending.message, ending.code) if ending.message else ending.code


@dataclass(frozen=True)
class Ending:
    """How ranks ended, as the one that ended for a reason of its own says it.

    Attributes:
        code: exit code of the whole.
        message: for a person; None: all is well.
    """

    code: int
    message: str | None = None


def train_on_ranks(run: RunDirectory) -> int:
    """Start as many ranks here as the run's configuration says, wait for them, and record how they ended.

    Returns:
        The exit code of the run.
    """
    had_begun = run.model.exists()
    ending = start_ranks(run, run.read_config()["hardware"], ["lx.training.worker", str(run.path)])
    if ending.message is None:
        return ending.code
    if in_use(run):
        pass  # what is in there is another group's
    elif ending.code in EXIT_CODES.values():
        _record(run, "stopped", ending.message)
    elif ending.code == LxError.exit_code and not had_begun and not run.model.exists():
        run.discard()
    else:
        _record(run, "failed", ending.message)
    return tell(ending.message, ending.code)


def start_ranks(run: RunDirectory, settings: dict[str, Any], command: list[str]) -> Ending:
    """Start ranks on this machine and wait for them.

    Args:
        run: the run directory that they work in.
        settings: the node ``hardware`` of a configuration.
        command: a module and its arguments.
    """
    devices = _num_devices(settings)
    _prepare_environment(settings, devices)
    try:
        elastic_launch(_launch_config(run, settings, devices), sys.executable)("-m", *command)
    except ChildFailedError as failure:
        rank, first = min(failure.failures.items(), key=lambda failed: (_remoteness(failed[1]), failed[1].timestamp))
        return Ending(first.exitcode if first.exitcode > 0 else 1, _cause(rank, first))
    except SignalException as stopped:
        number = signal.Signals(stopped.sigval)
        code = EXIT_CODES.get(number, 128 + number)
        return Ending(code, f"stopped by {number.name}; to go on: lx resume {run.path}")
    return Ending(0)


def _num_devices(settings: dict[str, Any]) -> int:
    devices = settings["devices"]
    if devices != "auto":
        return int(devices)
    import torch

    kind = hardware.accelerator_kind(settings["accelerator"])
    return torch.cuda.device_count() if kind == "cuda" else 1


def _prepare_environment(settings: dict[str, Any], devices: int) -> None:
    """What every rank is to find in its environment."""
    environment = child_environment()
    threads = settings["threads"] or max(1, hardware.num_cores() // devices)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_S))
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a failure is told once, below


def _launch_config(run: RunDirectory, settings: dict[str, Any], devices: int) -> LaunchConfig:
    nodes, endpoint = settings["num_nodes"], os.environ.get(ENDPOINT) or settings["rdzv_endpoint"]
    if nodes > 1 and not endpoint:
        raise LxError(
            f"hardware.num_nodes={nodes}: the machines must know where to meet: give the same "
            "hardware.rdzv_endpoint=HOST:PORT, one of the machines and a free port there, to each"
        )
    endpoint = endpoint if nodes > 1 else "localhost:0"  # 0: the system picks a port
    return LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=devices,
        run_id=str(run.path.resolve()) if nodes > 1 else f"{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint,
        local_addr=_address_towards(endpoint),
        max_restarts=0,
        monitor_interval=0.1,
    )


def _address_towards(endpoint: str) -> str | None:
    """The address that this machine has on the way to where the machines meet: the others can reach it there.

    A machine's own name, which torchrun would tell them, need not be known to anybody, itself included. Where they meet
    on this very machine, whose own name may lead it to itself alone, the others know it as the endpoint's host.
    """
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, int(port) or None, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            found = str(probe.getsockname()[0])
    except (OSError, ValueError):
        return None  # torchrun will say what is wrong with the endpoint
    return host if ip_address(found).is_loopback and host != "localhost" else found


def _remoteness(failure: ProcessFailure) -> int:
    """How far a rank's end is from the cause: a rank that goes pulls others along, and the launcher ends the rest."""
    if failure.exitcode in (-signal.SIGTERM, *EXIT_CODES.values()):
        return 3
    if failure.error_file_data.get("secondary"):
        return 2
    return 0 if failure.exitcode == -signal.SIGKILL else 1


def _cause(rank: int, failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return (
            f"error: rank {rank} (pid {failure.pid}) was killed by {name_of_signal(failure.exitcode)}, and the others "
            "were ended; what was saved before is whole"
        )
    if "secondary" in failure.error_file_data:  # it has said why
        return failure.message
    return f"error: rank {rank} (pid {failure.pid}) ended with exit code {failure.exitcode}, and the others were ended"


def _record(run: RunDirectory, status: str, message: str) -> None:
    if status == "stopped" and run.result.exists() and run.read_result().status == status:
        return  # the first rank has said so itself
    run.write_result(Result(status, str(run.path), error=message.removeprefix("error: ")))


if __name__ == "__main__":
    sys.exit(main())
