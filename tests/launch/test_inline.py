"""Trainings from Python, as in a notebook."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from omegaconf import OmegaConf

import lx
from lx.errors import LxError
from lx.inference.stream import Predictor
from lx.system.signals import Stopped
from support.tiny_run import tiny, train_tiny


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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.lr", "fast", "optimizer.lr must be"),
        ("trainer.max_steps", -3, "trainer.max_steps must be"),
        ("data.batch_size", 0, "data.batch_size must be"),
        ("seed", None, "seed must be"),
        ("hardware.devices", 9, "launch=inline"),
    ],
)
def test_a_change_of_the_configuration_is_checked(tmp_path: Path, key: str, value: object, message: str) -> None:
    cfg = lx.compose(tiny(tmp_path))
    OmegaConf.update(cfg, key, value)
    with pytest.raises(LxError, match=message):
        lx.train(cfg)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("cfg", [["model=tiny"], {"model": "tiny"}, None])
def test_what_is_no_configuration(cfg: Any) -> None:
    with pytest.raises(LxError, match=r"lx.train takes what lx.compose returns, not a (list|dict|NoneType)"):
        lx.train(cfg)


@pytest.mark.parametrize("threads", [0, -1, 10**6, 1.5, "2"])
def test_a_number_of_threads_that_is_none(trained_run: Path, threads: Any) -> None:
    with pytest.raises(LxError, match="threads must be a whole number from 1 to 1024"):
        lx.load(trained_run, threads=threads)


def test_overrides_may_come_one_by_one() -> None:
    assert lx.compose(word for word in ["model=tiny", "model.dim=64"]).model.dim == 64


@pytest.mark.parametrize("text", [["bread"], b"bread"])
def test_an_explanation_is_of_a_string(trained_run: Path, text: Any) -> None:
    with pytest.raises(LxError, match=r"texts\[0\] is (a list|binary data), not a string"):
        lx.explain(trained_run, text)
