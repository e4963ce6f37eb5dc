"""Start the ranks of a run on this machine, through torchrun's launcher: ``python -m lx.launch.torchrun RUN``.

With ``HARDWARE COMMAND ...`` behind it, HARDWARE being settings as JSON, the ranks run another command of ``lx``.
One such process runs on every machine that takes part. It ends when all ranks have, and prints one message on failure.
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
    from lx.run.directory import RunDirectory
    from lx.run.ending import record_end
    from lx.run.lock import in_use
    from lx.system import hardware
    from lx.system.processes import child_environment, end_with_parent, name_of_signal, report_exit
    from lx.system.signals import EXIT_CODES
    from lx.tracking.wandb_agent import end_of_stopped

_SHUTDOWN_S = 25  # time for ranks to save and end after a signal, or after one of them failed


def main() -> int:
    """Entry point; returns the exit code of the run, or of the command."""
    end_with_parent()
    path, *words = sys.argv[1:]
    run = RunDirectory(Path(path))
    try:
        if not words:
            return train_on_ranks(run)
        settings, *command = words
        outcome = start_ranks(run, json.loads(settings), ["lx", *command])
    except LxError as error:
        return report_exit(f"error: {error}", error.exit_code)
    return report_exit(outcome.message, outcome.code) if outcome.message else outcome.code


@dataclass(frozen=True)
class Outcome:
    """How a group of ranks ended: exit code and message of the rank that caused a failure; no message on success."""

    code: int
    message: str | None = None


def train_on_ranks(run: RunDirectory) -> int:
    """Start as many ranks here as the run's configuration says, record how they ended, and return the exit code."""
    is_resumed = run.model.exists() or run.resumption.exists()
    try:
        outcome = start_ranks(run, run.next_config()["hardware"], ["lx.training.worker", str(run.path)])
    except LxError:
        if not is_resumed:
            run.discard()
        raise
    if outcome.message is None:
        return outcome.code
    code = outcome.code
    if in_use(run):
        pass  # another group of ranks trains in the directory
    elif outcome.code in EXIT_CODES.values():
        status, code = end_of_stopped(outcome.code)
        record_end(run, status, outcome.message)
    elif outcome.code == LxError.exit_code and not is_resumed and not run.model.exists():
        run.discard()
    else:
        record_end(run, "failed", outcome.message.removeprefix("error: "))
    return report_exit(outcome.message, code)


def start_ranks(run: RunDirectory, settings: dict[str, Any], command: list[str]) -> Outcome:
    """Run a module with its arguments on ranks of this machine, by the settings of ``hardware``, and wait for them.

    Raises:
        LxError: this machine does not have what the settings ask for, and no rank was started.
    """
    devices = hardware.num_devices(settings)
    _prepare_environment(settings, devices)
    try:
        elastic_launch(_launch_config(run, settings, devices), sys.executable)("-m", *command)
    except ChildFailedError as failure:
        rank, first = min(failure.failures.items(), key=lambda failed: (_grade(failed[1]), failed[1].timestamp))
        return Outcome(first.exitcode if first.exitcode > 0 else 1, _cause(rank, first))
    except SignalException as stopped:
        number = signal.Signals(stopped.sigval)
        code = EXIT_CODES.get(number, 128 + number)
        return Outcome(code, f"stopped by {number.name}; to go on: lx resume {run.quoted}")
    return Outcome(0)


def _prepare_environment(settings: dict[str, Any], devices: int) -> None:
    """Set the environment that the ranks inherit."""
    environment = child_environment()
    threads = settings["threads"] or max(1, hardware.num_cores() // devices)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    environment.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(_SHUTDOWN_S))
    # Without this every rank warns at its first step that DDP searches for unused parameters.
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # a failure is reported once, by this file


def _launch_config(run: RunDirectory, settings: dict[str, Any], devices: int) -> LaunchConfig:
    nodes, endpoint = settings["num_nodes"], hardware.rendezvous_endpoint(settings)
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
    """Return the address under which the other machines reach this one: that of its route to the endpoint.

    torchrun would give them the machine's name, which may not resolve. If the endpoint is on this machine, the route is
    the loopback, and the endpoint's host is returned.
    """
    host, _, port = endpoint.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, int(port) or None, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing
            own = str(probe.getsockname()[0])
    except (OSError, ValueError):
        return None  # torchrun reports what is wrong with the endpoint
    return host if ip_address(own).is_loopback and host != "localhost" else own


def _grade(failure: ProcessFailure) -> int:
    """Grade a failure from cause (0) to consequence (3): when one rank fails, others fail or are terminated with it."""
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
    if "secondary" in failure.error_file_data:  # it has reported why
        return failure.message
    return f"error: rank {rank} (pid {failure.pid}) ended with exit code {failure.exitcode}, and the others were ended"


if __name__ == "__main__":
    sys.exit(main())
