"""Files that a person names stay what they are."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from pathlib import Path

import pytest

from lx.errors import LxError
from lx.system.files import check_output, output_file, to_json


def write(path: Path, text: str = "new") -> None:
    with output_file(path) as temporary:
        temporary.write_text(text)


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "target"
    target.write_text("old")
    for link, aim in (("direct", target), ("relative", Path("there/target")), ("of a link", tmp_path / "direct")):
        (tmp_path / link).symlink_to(aim)
        write(tmp_path / link, link)
        assert (tmp_path / link).is_symlink() and target.read_text() == link
    (tmp_path / "dangling").symlink_to("nowhere")
    write(tmp_path / "dangling")
    assert (tmp_path / "nowhere").read_text() == "new"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == ["target"]


def test_a_file_keeps_its_permissions_and_its_names(tmp_path: Path) -> None:
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.touch(mode=0o600)
    write(secret)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    other.hardlink_to(secret)
    write(secret, "newer")
    assert other.read_text() == "newer" and other.samefile(secret)


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write(pipe)
    reader.join()
    assert read == ["new"] and stat.S_ISFIFO(pipe.stat().st_mode)


def test_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to(os.devnull)
    for path in (Path(os.devnull), tmp_path / "null"):
        write(path)
        assert stat.S_ISCHR(path.stat().st_mode)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "full").symlink_to("/dev/full")
    for path, says in (
        (tmp_path, "it is a directory"),
        (tmp_path / "no" / "folder", "No such file"),
        (tmp_path / "circle", "link"),
        (tmp_path / "full", "No space left"),
    ):
        with pytest.raises(LxError, match=says):
            write(path)


def test_whether_it_can_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user who is not root: a device may be written to, though no file can be made beside it."""
    (tmp_path / "file").touch()
    (tmp_path / "null").symlink_to(os.devnull)
    own = {tmp_path, tmp_path / "null", Path(os.devnull)}
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) in own)
    for path in (tmp_path / "file", tmp_path / "new", tmp_path / "null", Path(os.devnull)):
        check_output(path)
    for path, says in (
        (tmp_path, "it is a directory"),
        (tmp_path / "no" / "file", "there is no directory"),
        (tmp_path / "file" / "file", "there is no directory"),
        (Path("/etc/passwd"), "you may not write to /etc"),
    ):
        with pytest.raises(LxError, match=says):
            check_output(path)


def test_a_failure_leaves_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with contextlib.suppress(KeyError), output_file(tmp_path / "link") as temporary:
        temporary.write_text("half")
        raise KeyError
    assert (tmp_path / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.parametrize(
    "content", [[1, 2], {"a": [[1, -2.5e-9], []], "b": ["x", "1,\n 2", "[\n 1 ]"]}, ["[", 1, "]"], [None, True, 1.0]]
)
def test_json_reads_back(content: object) -> None:
    assert json.loads(to_json(content)) == content


def test_numbers_stand_on_one_line() -> None:
    assert to_json({"a": [[1, 2], [3, 4]]}) == '{\n  "a": [\n    [1, 2],\n    [3, 4]\n  ]\n}\n'
