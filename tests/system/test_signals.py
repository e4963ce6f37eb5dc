from __future__ import annotations

import json
import signal
import threading
from pathlib import Path

import pytest

from lx.system.signals import Stopped, StopRequest, stop_on_signals
from support.tiny_run import train_tiny


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_impatient_request_stops_at_once(number: signal.Signals, code: int) -> None:
    with stop_on_signals(), pytest.raises(Stopped, match=number.name) as stopped:
        signal.raise_signal(number)
    assert stopped.value.exit_code == code


def test_a_patient_request_is_noted_and_an_interrupt_after_it_acts() -> None:
    with stop_on_signals() as request:
        request.patient = True
        signal.raise_signal(signal.SIGTERM)
        assert request.received == signal.SIGTERM
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


def test_sigterm_again_is_the_same_request() -> None:
    with stop_on_signals() as request:
        request.patient = True
        signal.raise_signal(signal.SIGTERM)
        request.patient = False  # the training state is being saved
        signal.raise_signal(signal.SIGTERM)
        assert request.received == signal.SIGTERM


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    found: list[StopRequest] = []

    def work() -> None:
        with stop_on_signals() as request:
            found.append(request)

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found and signal.getsignal(signal.SIGTERM) is before


def test_a_request_after_the_last_step_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "lx.training.callbacks.checkpoint.Checkpoint.on_train_end", lambda *_: signal.raise_signal(signal.SIGTERM)
    )
    with pytest.raises(SystemExit):
        train_tiny(tmp_path)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "stopped"
