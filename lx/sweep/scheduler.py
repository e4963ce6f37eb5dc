"""The loop of a sweep: starts runs where there is room, waits for them, and stops them when asked."""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import FrameType
from typing import Protocol

from lx.sweep.slots import Slot
from lx.sweep.trials import Replicate
from lx.system.signals import handled_by

_POLL_S = 0.02
_LOOK_S = 1.0  # pause after there was nothing to run
_SAVE_S = 30.0  # for runs to save and end when the sweep fails


class Process(Protocol):
    """The process of a run: ``subprocess.Popen``, or a forked worker."""

    def poll(self) -> int | None:
        """The exit code; None while it runs."""

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""


@dataclass
class Job:
    """A run that is under way."""

    replicate: Replicate
    slot: Slot
    process: Process
    started: float = field(default_factory=time.monotonic)


class Stop:
    """Whether the sweep was asked to stop, by a signal or because its time is over.

    Args:
        deadline: when its time is over, on the monotonic clock; None: never.

    Attributes:
        exit_code: 130 or 143 for a signal; 0 for the budget; None: it goes on.
        at_once: whether a second signal came.
    """

    def __init__(self, deadline: float | None) -> None:
        self.exit_code: int | None = None
        self.at_once = False
        self._deadline = deadline

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.at_once = self.exit_code is not None
        self.exit_code = 128 + number

    @property
    def seconds_left(self) -> float:
        """Seconds until the budget is spent; infinite without one."""
        return math.inf if self._deadline is None else self._deadline - time.monotonic()

    def look_at_clock(self) -> None:
        """Stop when the budget is spent."""
        if self.exit_code is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.exit_code = 0

    def listening(self) -> AbstractContextManager[None]:
        """Handle SIGINT, SIGTERM and SIGHUP while the block runs."""
        return handled_by(self.receive, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))


def run_jobs(
    slots: list[Slot],
    next_replicate: Callable[[], Replicate | None],
    start: Callable[[Replicate, Slot], Process | None],
    ended: Callable[[Job, int], None],
    stop: Stop,
    watch: Callable[[list[Job]], None],
    others_run: Callable[[], bool],
) -> None:
    """Run replicates on slots until there are none left, or until the sweep is to stop.

    Args:
        slots: one run each at a time.
        next_replicate: chooses what to run next; None: nothing at the moment.
        start: starts a run; None: it could not be started, which ``start`` has recorded.
        ended: records how a run ended.
        stop: whether to stop; then nothing new starts, and what runs is asked to save.
        watch: looks after the runs that are under way; called often.
        others_run: whether other workers run what this one would have to run if they died.
    """
    free, running = deque(slots), list[Job]()
    signalled = False
    next_look = 0.0
    try:
        while True:
            stop.look_at_clock()
            while free and stop.exit_code is None and time.monotonic() >= next_look:
                replicate = next_replicate()
                if replicate is None:
                    next_look = time.monotonic() + _LOOK_S
                elif (process := start(replicate, free[0])) is not None:
                    running.append(Job(replicate, free.popleft(), process))
                    watch(running)
            if stop.exit_code is not None and (not signalled or stop.at_once):
                _send_signal(running, signal.SIGKILL if stop.at_once else signal.SIGTERM)
                signalled = True
            if not running and (stop.exit_code is not None or not others_run()):
                return
            for job in list(running):
                code = job.process.poll()
                if code is not None:
                    running.remove(job)
                    free.append(job.slot)
                    ended(job, code)
                    next_look = 0.0
            watch(running)
            time.sleep(_POLL_S)
    except Exception:
        _save(running)
        raise


def _send_signal(running: list[Job], number: int) -> None:
    for job in running:
        job.process.send_signal(number)


def _save(running: list[Job]) -> None:
    """Ask runs to save and end, and wait for them for a while."""
    _send_signal(running, signal.SIGTERM)
    deadline = time.monotonic() + _SAVE_S
    while any(job.process.poll() is None for job in running) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
