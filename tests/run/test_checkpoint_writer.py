"""Checkpoints written in a thread, beside training."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.errors import TrainingError
from lx.run.checkpoint import (
    CheckpointWriter,
    is_intact,
    read_checkpoint,
    read_step,
    write_checkpoint,
    write_training_state,
)
from lx.run.directory import RunDirectory
from lx.system.signals import Stopped, stop_on_signals
from support.tiny_run import train_tiny


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


def held_back(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let the writer's thread wait for the event before each write."""
    event = threading.Event()

    def write(path: Path, content: dict[str, Any]) -> None:
        assert event.wait(60)
        write_checkpoint(path, content)

    monkeypatch.setattr("lx.run.checkpoint.write_checkpoint", write)
    return event


def test_training_goes_on_while_the_state_is_written(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    go = held_back(monkeypatch)
    writer = CheckpointWriter()
    weight, inner = torch.zeros(3), {"list": [torch.zeros(2)], "pair": (torch.zeros(1), 5)}
    writer.submit({"weight": weight, "inner": inner}, partial(write_training_state, run))
    weight.add_(1)
    inner["list"][0].add_(1)  # type: ignore[index]
    inner["pair"][0].add_(1)  # type: ignore[index]
    inner["more"] = []
    assert not run.last.exists()
    go.set()
    writer.wait()
    found = read_checkpoint(run.last)
    assert found == {
        "weight": found["weight"],
        "inner": {"list": found["inner"]["list"], "pair": found["inner"]["pair"]},
    }
    assert found["weight"].tolist() == [0, 0, 0]
    assert (found["inner"]["list"][0].tolist(), found["inner"]["pair"][0].tolist()) == ([0, 0], [0])
    assert found["inner"]["pair"][1] == 5 and isinstance(found["inner"]["pair"], tuple)


def test_the_state_before_is_kept(run: RunDirectory) -> None:
    writer = CheckpointWriter()
    for step, (last, previous) in [(1, (1, None)), (2, (2, 1)), (3, (3, 2))]:
        writer.submit({"global_step": step}, partial(write_training_state, run))
        writer.wait()
        assert read_step(run.last) == last
        assert (read_step(run.previous) if run.previous.exists() else None) == previous
        assert is_intact(run.last)
    assert {found.name for found in run.last.parent.iterdir()} == {"last.ckpt", "previous.ckpt"}


@pytest.mark.parametrize("told", ["wait", "submit"])
def test_a_write_that_failed_is_told_at_the_next_occasion(
    run: RunDirectory, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CheckpointWriter()

    def submit(step: int) -> None:
        writer.submit({"global_step": step}, partial(write_training_state, run))

    submit(1)
    writer.wait()

    def refuses(path: Path, content: dict[str, Any]) -> None:
        raise TrainingError("no space left")

    monkeypatch.setattr("lx.run.checkpoint.write_checkpoint", refuses)
    submit(2)
    occasion: dict[str, Callable[[], None]] = {"wait": writer.wait, "submit": lambda: submit(3)}
    with pytest.raises(TrainingError, match="no space left"):
        occasion[told]()
    assert read_step(run.last) == 1
    writer.wait()  # told once


def test_a_signal_breaks_off_the_wait_and_not_the_checkpoint(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = held_back(monkeypatch)
    writer = CheckpointWriter()
    writer.submit({"global_step": 1}, partial(write_training_state, run))
    with stop_on_signals():
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(Stopped):
            writer.wait()
    assert not run.last.exists()
    go.set()
    writer.wait()  # as when the exception is handled
    assert read_step(run.last) == 1


def test_the_main_thread_where_signals_act_writes_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights neither: a signal inside torch's writer once ended a run with an error of the file's."""
    written: dict[str, bool] = {}

    def write(path: Path, content: dict[str, Any]) -> None:
        written[path.name] = written.get(path.name, False) or threading.current_thread() is threading.main_thread()
        write_checkpoint(path, content)

    for module in ("lx.run.checkpoint", "lx.training.callbacks.checkpoint"):
        monkeypatch.setattr(f"{module}.write_checkpoint", write)
    train_tiny(tmp_path)
    assert written == {"newer.ckpt": False, "best.ckpt": False}
