"""Folders of texts, and paths that are no files: read as they are meant, or refused with the cause and the cure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lx.data.corpus.corpus import load_corpus
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"


def folder(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(f"words of {name}\r\n")
    return path


def test_folders_of_texts(tmp_path: Path) -> None:
    """Endings in any case; hidden files, and folders without a text, are mentioned."""
    names = ["a/2.TXT", "a/1.txt", "b/1.Txt", "a/._1.txt", "b/.x.TXT", ".git/1.txt", "c/1.md", "top.txt"]
    source = FileSource(folder(tmp_path / "train", *names))
    (rows,) = source.read("train")
    assert list(zip(rows.texts, rows.labels, strict=True)) == [
        ("words of a/1.txt\n", "a"),
        ("words of a/2.TXT\n", "a"),
        ("words of b/1.Txt\n", "b"),
    ]
    hidden, without = source.notes("train")
    assert "2 hidden files, such as ._1.txt, are left out" in hidden
    assert without.endswith("no .txt files, and so no class, in c")
    before = source.fingerprint()
    (tmp_path / "train/a/._1.txt").write_text("changed")
    assert source.fingerprint() == before
    corpus = load_corpus(source, ClassEncoder(None), data_settings(tmp_path / "cache", validation_fraction=0.5))
    assert corpus.report.warnings()[:2] == [hidden, without]


def unreadable(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


BROKEN: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "dangling link": ("a/1.txt", unreadable, "a/1.txt: a link to nowhere, which does not exist"),
    "folder with a file's name": (
        "a/1.txt",
        lambda path: (path.unlink(), path.mkdir()),
        "a/1.txt: cannot be read: Is a ",
    ),
    "LFS pointer": (
        "a/1.txt",
        lambda path: path.write_text(LFS),
        "run `git lfs pull`",
    ),
    "UTF-16": ("b/1.txt", lambda path: path.write_text("some words", "utf-16"), "b/1.txt: the encoding is UTF-16"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_file_of_a_folder_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    name, spoil, message = BROKEN[case]
    source = FileSource(folder(tmp_path / "train", "a/1.txt", "b/1.txt"))
    spoil(tmp_path / "train" / name)
    with pytest.raises(LxError, match=re.escape(message)):
        source.fingerprint(), list(source.read("train"))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("gone.csv")
    folder(tmp_path / "tables", "train.csv")
    for path, message in (
        (tmp_path / "pipe.csv", "is a pipe or a device"),
        (tmp_path / "link.csv", "is a link to gone.csv, which does not exist"),
        (tmp_path / ("x" * 300 + ".csv"), "cannot be read: File name too long"),
        ("~nobody-of-this-name/a.csv", "no such user's folder"),
    ):
        with pytest.raises(LxError, match=message):
            FileSource(path)
    with pytest.raises(LxError, match=r"If train\.csv in it is meant, name the file itself"):
        list(FileSource(tmp_path / "tables").read("train"))


def test_fingerprints_of_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of lx 0.1 go on: what their data's fingerprint was made of stays."""
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text,label\none,a\ntwo,b\n")
    folder(tmp_path / "texts", "a/1.txt", "b/1.txt")
    assert FileSource("a.csv").fingerprint() == "489c737c2eac47e840e6f750b9504a87"
    assert (
        FileSource("a.csv", test="a.csv", text="x", text_pair="y", class_names=["a"]).fingerprint()
        == "6d9ef73e37b0a710bf877d74c6735d15"
    )
    assert FileSource("texts").fingerprint() == "b56fabf9cc2ad3a0db787598cc8aaf92"
