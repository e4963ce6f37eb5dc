"""Several processes of one run."""

from __future__ import annotations

import contextlib
import signal
import socket
from pathlib import Path

from support.commands import Started, assert_done, training
from support.forked import fork
from support.run_files import losses
from support.waiting import wait_for_steps, wait_until

STEPS_PER_EPOCH = 7  # of ``training`` on ``corpus.write_splits``


def ranks(count: int, *more: str) -> list[str]:
    """Overrides for several ranks on the CPU."""
    return ["hardware=ddp_cpu", f"hardware.devices={count}", "hardware.precision=32-true", *more]


def prepare(folder: Path, run: str, *overrides: str) -> None:
    """Make a run directory for workers to come."""
    assert_done(fork(folder, *training(run, *overrides, "launch=prepare")).wait())


def workers(folder: Path, run: str, count: int = 1) -> list[Started]:
    """Fork the ranks of a run that is prepared or stopped, with the environment variables that torchrun sets."""
    world = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
    world |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        fork(folder, "worker", run, env={**world, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(count)
    ]


def work(folder: Path, run: str, count: int = 1) -> None:
    """Train a run that is prepared or stopped to its end."""
    assert_all_done(*workers(folder, run, count))


def train_on_ranks(folder: Path, run: str, count: int, *overrides: str) -> None:
    """Train on forked ranks to the end."""
    prepare(folder, run, *ranks(count), *overrides)
    work(folder, run, count)


def interrupt(folder: Path, run: str, count: int, *overrides: str) -> None:
    """Train until one of the forked ranks gets SIGTERM in mid-epoch, after the first epoch."""
    prepare(folder, run, *(ranks(count) if count > 1 else []), *overrides)
    steps = STEPS_PER_EPOCH
    while steps % STEPS_PER_EPOCH == 0:
        started = workers(folder, run, count)
        wait_for_steps(folder / run, steps + 2)
        started[-1].send(signal.SIGTERM)
        for worker in started:
            ended = worker.wait()
            assert ended.code == 143, ended.output
        steps = len(losses(folder / run))


def assert_all_done(*started: Started) -> None:
    """Wait for processes that work together: if one fails, the others may wait for it for ever."""

    def over() -> bool:
        codes = [process.code for process in started]
        return any(codes) or None not in codes

    with contextlib.suppress(AssertionError):
        wait_until(over, "processes")
    for process in sorted(started, key=lambda process: not process.code):  # the message of one that failed comes first
        assert_done(process.wait(0))


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
