"""What ``sweep.json`` holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from lx.errors import LxError
from lx.sweep.record import Record
from lx.system.git import revision


def record(code: str | None) -> Record:
    return Record(("model=tiny,small",), None, "/", 1, 0, "val/accuracy", "max", revision=code)


def test_a_record_is_read_back_and_what_a_newer_lx_adds_is_left_out(tmp_path: Path) -> None:
    record("abc").write(tmp_path)
    path = tmp_path / "sweep.json"
    path.write_text(path.read_text().replace("{", '{"of_tomorrow": 1,', 1))
    assert Record.read(tmp_path) == record("abc")


@pytest.mark.parametrize("content", ["[]", "{}", "{"])
def test_a_file_that_is_no_record_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(content)
    with pytest.raises(LxError, match="not the record of a sweep"):
        Record.read(tmp_path)


def test_changed_code_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    record(revision()).warn_of_other_code()
    assert not capsys.readouterr().err
    record("abc").warn_of_other_code()
    assert "the code has changed since this sweep was planned: abc, now" in capsys.readouterr().err
