"""Checkpoint files: whole or not there, and damage is seen wherever it is."""

from __future__ import annotations

import logging
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.errors import LxError, TrainingError
from lx.run.checkpoint import (
    is_intact,
    newest_intact,
    read_checkpoint,
    read_step,
    write_checkpoint,
)
from lx.run.directory import RunDirectory

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
