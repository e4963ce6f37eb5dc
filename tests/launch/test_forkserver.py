"""Workers that the fork server starts."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lx.launch.forkserver import ForkServer
from support.commands import assert_done, training
from support.forked import fork
from support.waiting import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_that_is_sent_before_the_worker_has_begun_ends_it(folder: Path, number: signal.Signals) -> None:
    name = f"at-once-{number}"
    assert_done(fork(folder, *training(name, "launch=prepare", "trainer.max_epochs=10000")).wait())
    server = ForkServer()
    try:
        worker = server.start(folder / name, folder / f"{name}.txt", {}, [])
        worker.send_signal(number)
        assert worker.pid is None  # the server is still importing
        wait_until(lambda: worker.poll() is not None, "the worker ends")
    finally:
        server.close()
    assert worker.code in (-number, 128 + number)
