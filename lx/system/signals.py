"""Stop a run by a signal: in training after the step, with a checkpoint; elsewhere, or the second time, at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stopped(BaseException):
    """The run was asked to stop, and has saved what it could.

    Attributes:
        exit_code: of the process.
        together: whether all ranks stopped after the same step, so that they can wait for each other.
    """

    def __init__(self, number: int, together: bool = False) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.together = together
        self.exit_code = EXIT_CODES[signal.Signals(number)]


class StopRequest:
    """A request to stop the run, if one has come.

    Attributes:
        received: the signal's number; None: there was none.
        patient: True while training, which checks ``received`` after each step.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.patient = False

    def listen(self) -> None:
        """Become the handler of SIGINT and SIGTERM; do nothing outside the main thread, where Python forbids it."""
        if threading.current_thread() is threading.main_thread():
            for number in EXIT_CODES:
                signal.signal(number, self.receive)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: while training the first waits for the step to end; a SIGINT after it does not.

        A SIGTERM after it is the same request again: batch systems send it to every process, and launchers forward it.
        """
        again = self.received is not None
        if again and number == signal.SIGTERM:
            return
        self.received = number
        if again or not self.patient:
            raise Stopped(number)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], None], numbers: Sequence[int]) -> Iterator[None]:
    """Let a function handle some signals while the block runs; only for the main thread."""
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous_handler in previous.items():
            signal.signal(number, previous_handler)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note SIGINT and SIGTERM while the block runs, in the main thread."""
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in EXIT_CODES}
    request.listen()
    try:
        yield request
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in previous.items():
                signal.signal(number, handler)
