"""What a run survives: damaged files and full disks cost the steps since the state before, and no more."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lx.run.checkpoint import is_intact
from support.commands import assert_done, start, training
from support.corpus import write_rows, write_splits
from support.faults import SETTINGS, STEPS, assert_same, assert_told, flip_a_bit, truncate
from support.forked import fork
from support.run_files import result, rows
from support.waiting import wait_for_steps

pytestmark = [
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc"),
]


@pytest.mark.parametrize("damage", [truncate, flip_a_bit])
def test_damaged_state(damage: Callable[[Path], None], half: Path, whole: Path) -> None:
    damage(half / "checkpoints" / "last.ckpt")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_done(ended)
    assert ended.output.count("last.ckpt is damaged: its checksum does not fit") == 1
    assert_same(half, whole)


def test_both_states_damaged(half: Path) -> None:
    flip_a_bit(half / "checkpoints" / "last.ckpt")
    truncate(half / "checkpoints" / "previous.ckpt")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_told(ended, 2, "all training states in .*checkpoints are damaged: remove them")


def test_disk_that_takes_no_more(half: Path, whole: Path) -> None:
    """A limit on the size of files: log and metrics are small enough, checkpoints are not."""
    before = {path: path.read_bytes() for path in (half / "checkpoints").iterdir()}
    limit = min(map(len, before.values())) // 2
    preexec = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
    ended = start(half.parent, ["resume", half.name], preexec=preexec).wait()
    assert_told(ended, 1, r"cannot write the checkpoint .*\.ckpt: File too large; .*lx resume")
    assert result(half)["status"] == "failed"
    assert {path: path.read_bytes() for path in (half / "checkpoints").iterdir()} == before
    assert all(is_intact(path) for path in before)
    assert_done(fork(half.parent, "resume", half.name).wait())
    assert_same(half, whole)


def fill(path: Path) -> None:
    """Leave no room on a disk."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def test_full_disk(folder: Path, whole: Path) -> None:
    """What was saved before is whole, and serves when there is room again."""
    disk, run = folder / "disk", folder / "disk" / "run"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        process = fork(folder, *training("disk/run", *SETTINGS))
        wait_for_steps(run, 9)
        fill(disk / "filler")
        assert_told(process.wait(), 1, "cannot write .*: No space left on device")
        assert len(rows(run)) < STEPS
        assert is_intact(run / "checkpoints" / "last.ckpt")
        (disk / "filler").unlink()
        assert_done(fork(folder, "resume", "disk/run").wait())
        assert_same(run, whole)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_log_that_cannot_be_written(half: Path, whole: Path) -> None:
    """No reason to stop, and nothing to tell at every line."""
    (half / "log.txt").unlink()
    (half / "log.txt").symlink_to("/dev/full")
    ended = fork(half.parent, "resume", half.name).wait()
    assert_done(ended)
    assert "Logging error" not in ended.output
    assert_same(half, whole)


def test_changed_data_is_refused(half: Path) -> None:
    place = half.parent / "changed"
    place.mkdir()
    write_splits(place)
    shutil.move(half, place / half.name)
    write_rows(place / "train.jsonl", 50, start=1, unbalanced=True)
    before = {path.name: path.read_bytes() for path in (place / half.name / "checkpoints").iterdir()}
    assert_told(fork(place, "resume", half.name).wait(), 2, "the data is not what .* was trained on")
    assert {path.name: path.read_bytes() for path in (place / half.name / "checkpoints").iterdir()} == before
