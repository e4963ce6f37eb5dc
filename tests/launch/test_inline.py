"""Trainings from Python, as in a notebook."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import lx
from lx.errors import LxError
from lx.inference.stream import Predictor
from lx.system.signals import Stopped
from support.tiny_run import train_tiny


def test_the_environment_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokenizers that a variable keeps in parallel hang in a process that is forked later, as web servers do."""
    monkeypatch.delenv("TOKENIZERS_PARALLELISM", raising=False)
    before = {*os.environ}
    train_tiny(tmp_path)
    assert [name for name in {*os.environ} - before if not re.match("PYTORCH_|TORCHINDUCTOR_", name)] == []


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
def test_a_signal_ends_a_training_as_python_ends_a_program(
    tmp_path: Path,
    number: signal.Signals,
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(*_: object) -> None:
        raise Stopped(number)

    monkeypatch.setattr("lx.training.train._train", stop)
    with pytest.raises(error) as raised:
        train_tiny(tmp_path)
    said = f"stopped by {number.name}; to go on: lx resume {tmp_path / 'run'}"
    assert said in (str(raised.value) if number == signal.SIGINT else capsys.readouterr().err)
    assert number == signal.SIGINT or raised.value.code == 143  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "call",
    [
        lambda run: lx.compose("model=tiny"),
        lambda run: lx.compare(str(run)),
        lambda run: lx.load(run, trust="my_package"),
        lambda run: lx.explain(run, "bread", trust="my_package"),
    ],
)
def test_a_string_in_the_place_of_a_list(trained_run: Path, call: Callable[[Path], object]) -> None:
    with pytest.raises(LxError, match=r"is a single string, not a list of strings: give \['"):
        call(trained_run)


def test_a_notebook_completes_the_names_of_lx() -> None:
    assert set(dir(lx)) == {*lx.__all__, "__version__"}


def test_a_type_checker_accepts_what_a_task_predicts() -> None:
    """The type of a prediction depends on the run: ``label`` of one, ``value`` of another."""
    assert get_type_hints(Predictor.predict)["return"] == list[Any]
