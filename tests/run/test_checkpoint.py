"""Checkpoint files: whole or not there, and damage is seen wherever it is."""

from __future__ import annotations

import logging
import os
import resource
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.errors import LxError, TrainingError
from lx.run.checkpoint import (
    CheckpointWriter,
    is_intact,
    newest_intact,
    read_checkpoint,
    read_step,
    write_checkpoint,
    write_training_state,
)
from lx.run.directory import RunDirectory
from lx.system.signals import Stopped, stop_on_signals
from support.tiny_run import train_tiny

CONTENT = {"global_step": 7, "weights": {"a": torch.arange(131.0), "b": torch.tensor([True])}, "x": [None, "中", 1.5]}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "checkpoints").mkdir()
    return RunDirectory(tmp_path)


@pytest.fixture
def path(run: RunDirectory) -> Path:
    write_checkpoint(run.last, CONTENT)
    return run.last


def assert_is_content(found: Any) -> None:
    assert torch.equal(found["weights"].pop("a"), CONTENT["weights"]["a"])  # type: ignore[index]
    assert found == {**CONTENT, "weights": {"b": torch.tensor([True])}}


def test_round_trip(path: Path) -> None:
    assert is_intact(path)
    assert_is_content(read_checkpoint(path))
    assert read_step(path) == 7
    assert [found.name for found in path.parent.iterdir()] == ["last.ckpt"]


def test_torch_reads_it_by_itself(path: Path) -> None:
    assert_is_content(torch.load(path, weights_only=True))
    assert_is_content(torch.load(path, weights_only=True, mmap=True))


def test_the_pieces_of_a_large_file_are_all_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.run.checkpoint._CHUNK", 1000)
    path = tmp_path / "large.ckpt"
    write_checkpoint(path, CONTENT)
    assert path.stat().st_size > 2000 and is_intact(path)
    content = bytearray(path.read_bytes())
    content[1500] ^= 1
    path.write_bytes(content)
    assert not is_intact(path)


def test_every_truncation_is_seen(path: Path) -> None:
    content = path.read_bytes()
    for length in {*range(0, len(content), 37), *range(len(content) - 80, len(content))}:
        path.write_bytes(content[:length])
        assert not is_intact(path), length
    path.write_bytes(content + b"\0")
    assert not is_intact(path), "a byte too many"
    path.write_bytes(content)
    assert is_intact(path)


def test_every_changed_byte_is_seen(path: Path) -> None:
    """The checksum's own too, in the archive's comment at the end."""
    content = path.read_bytes()
    for place in {*range(0, len(content), 29), *range(len(content) - 100, len(content))}:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert not is_intact(path), place


def test_a_file_of_torch_alone_is_not_taken_for_whole(path: Path) -> None:
    torch.save(CONTENT, path)
    assert not is_intact(path)
    with pytest.raises(LxError, match="checksum does not fit"):
        read_checkpoint(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_the_newest_intact_state(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    assert newest_intact(run) is None
    write_checkpoint(run.last, CONTENT)
    assert newest_intact(run) == run.last
    write_checkpoint(run.previous, CONTENT)
    assert newest_intact(run) == run.last
    assert caplog.messages == []
    cut(run.last)
    assert newest_intact(run) == run.previous
    assert [(r.levelno, "last.ckpt is damaged" in r.getMessage()) for r in caplog.records] == [(logging.WARNING, True)]
    cut(run.previous)
    with pytest.raises(LxError, match=r"all training states in .* are damaged: remove them"):
        newest_intact(run)
    run.last.unlink()
    run.previous.unlink()
    assert newest_intact(run) is None


def test_between_two_renames_the_previous_state_is_found(run: RunDirectory) -> None:
    write_checkpoint(run.previous, CONTENT)
    assert newest_intact(run) == run.previous


def test_a_state_that_leads_out_of_the_directory_is_refused(run: RunDirectory, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "outside.ckpt", CONTENT)
    run.last.symlink_to(tmp_path / "outside.ckpt")
    with pytest.raises(LxError, match="is a link"):
        newest_intact(run)


def test_a_disk_that_is_full_leaves_the_old_file(run: RunDirectory) -> None:
    """The system's own refusal: this process may write no file of more than 20 kB."""
    write_checkpoint(run.last, {"a": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(TrainingError) as refusal:
            write_checkpoint(run.last, {"a": torch.arange(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert str(refusal.value) == (
        f"cannot write the checkpoint {run.last}: File too large; those from before are whole: when there is room "
        f"again, go on with lx resume {run.path}"
    )
    assert read_checkpoint(run.last) == {"a": 1}
    assert [found.name for found in run.last.parent.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("what", ["fsync", "replace"])
def test_a_failure_at_the_last_moment_leaves_the_old_file(
    path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*(("lx.system.files.os.fsync", refuses) if what == "fsync" else (Path, "replace", refuses)))
        with pytest.raises(TrainingError, match=r"cannot write the checkpoint .*: .*No space left on device"):
            write_checkpoint(path, {"a": 1})
    assert_is_content(read_checkpoint(path))
    assert [found.name for found in path.parent.iterdir()] == ["last.ckpt"]


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
