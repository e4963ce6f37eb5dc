"""The directory that a sweep makes, or takes."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lx.errors import LxError
from lx.sweep import commands
from lx.sweep.commands import _make_directory


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "novel.txt").touch()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("file", "sweep.dir=file is a file"),
        ("file/sweep", "cannot make the sweep's directory file/sweep: Not a directory"),
        ("x" * 300, "cannot make the sweep's directory x+\\.\\.\\.x+: File name too long"),
        ("full", "sweep.dir=full is no sweep, and not empty"),
    ],
)
def test_a_directory_that_cannot_be_made_or_taken_is_refused(named: str, message: str) -> None:
    with pytest.raises(LxError, match=message):
        _make_directory(named)


def test_two_sweeps_that_begin_in_the_same_second_have_a_directory_each(monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["runs/noon", "runs/noon", "runs/a second later"])
    monkeypatch.setattr(commands, "default_directory", lambda: Path(next(names)))
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert [_make_directory(None), _make_directory(None)] == [Path("runs/noon"), Path("runs/a second later")]


def test_a_directory_of_a_sweep_that_was_killed_at_its_beginning_is_taken(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").touch()
    assert _make_directory("begun") == Path("begun")
