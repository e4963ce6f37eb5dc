"""Labelled texts in the user's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.readers import is_known, known_extensions, read_rows
from lx.data.sources.rows import Columns, split_label
from lx.errors import LxError, did_you_mean
from lx.system.cache import digest


class FileSource:
    """A file for each split, or a folder with a sub-folder of ``.txt`` files for each class.

    The extension says the format: ``.csv``, ``.tsv``, ``.jsonl`` (``.ndjson``, ``.json``) with or without
    ``.gz``, or ``.parquet``. Files are UTF-8, with a byte-order mark or not.

    Args:
        train: The train split.
        validation: The validation split; ``None`` to have one cut from train.
        test: The test split, if there is one.
        text: Column of the text.
        text_pair: Column of the second text, for tasks on pairs.
        label: Column of the label.
        label_separator: What stands between the labels of a text that has several, such as ``|``; None: one label.
        class_names: Names in class-id order; then integer labels are positions in this list.

    Raises:
        LxError: If ``train`` is not given, a file is not there, or an extension is not known.
    """

    def __init__(
        self,
        train: str | Path | None,
        validation: str | Path | None = None,
        test: str | Path | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str = "label",
        label_separator: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if train is None:
            raise LxError(
                "data.train is not set: name your training file, for example "
                "`lx train data=files data.train=train.csv data.test=test.csv`"
            )
        paths = {"train": train, "validation": validation, "test": test}
        self._paths = {split: Path(path).expanduser() for split, path in paths.items() if path is not None}
        self._columns = Columns(text, text_pair, label)
        self._label_separator = label_separator
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        for split, path in self._paths.items():
            _check(path, f"data.{split}")
            if path.is_dir() and text_pair is not None:
                raise LxError(f"data.text_pair is set, but {path} is a folder of texts, which has no columns")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a file."""
        return tuple(self._paths)

    def fingerprint(self) -> str:
        """Hash the files' contents and which columns are read."""
        contents = []
        for split, path in self._paths.items():
            files = [path] if path.is_file() else [file for _, file in _texts(path)]
            for file in files:
                with file.open("rb") as opened:
                    name = str(file.relative_to(path)) if path.is_dir() else "".join(file.suffixes)
                    contents.append((split, name, file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()))
        separator = [] if self._label_separator is None else [self._label_separator]
        return digest("files", contents, self._columns, self.class_names, *separator)

    def read(self, split: str) -> Iterator[Rows]:
        """Yield the rows of a split, a few thousand at a time; raise LxError for a damaged file or one without rows."""
        path = self._paths[split]
        if path.is_dir():
            yield from _read_folder(path)
            return
        empty = True
        for rows in read_rows(path, self._columns):
            empty = False
            if self._label_separator is not None:
                rows = replace(rows, labels=[split_label(label, self._label_separator) for label in rows.labels])
            yield rows
        if empty:
            raise LxError(f"{path}: there is a header and no rows under it")

    def describe(self, split: str) -> str:
        """The path as it was given."""
        return str(self._paths[split])

    def locate(self, split: str, row_number: int) -> str:
        """``train.csv:17``, or the file itself in a folder of texts."""
        path = self._paths[split]
        if path.is_dir():
            return str(next(file for number, (_, file) in enumerate(_texts(path), 1) if number == row_number))
        return f"{path}:{row_number}"


def _check(path: Path, key: str) -> None:
    """Refuse a path that is not there or of no known format."""
    if path.is_dir():
        return
    if not path.exists():
        siblings = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings)
        missing_folder = "" if path.parent.is_dir() else f" (nor is the folder {path.parent})"
        raise LxError(f"{key}: there is no file {path}{missing_folder}{hint}. Paths start from {Path.cwd()}")
    if not is_known(path):
        raise LxError(
            f"{key}: {path} has the extension {path.suffix or '(none)'!r}, which is not a known format. "
            f"Known are {', '.join(known_extensions())}, and a folder with a sub-folder for each class"
        )


def _texts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield class name and path of every text in a folder of classes, sorted."""
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for file in sorted(inner.glob("*.txt")):
            yield inner.name, file


def _read_folder(folder: Path) -> Iterator[Rows]:
    """Read every ``CLASS/NAME.txt`` of a folder; a row number is the number of the file."""
    texts: list[str | None] = []
    labels: list[Any] = []
    number = 0
    for number, (label, file) in enumerate(_texts(folder), 1):
        try:
            texts.append(file.read_text("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise LxError(f"{file}: not UTF-8 at byte {error.start}. Save the file as UTF-8") from None
        except OSError as error:
            raise LxError(f"{file}: cannot be read: {error.strerror or error}") from error
        labels.append(label)
        if len(texts) == CHUNK:
            yield Rows(texts, None, labels, number - len(texts) + 1)
            texts, labels = [], []
    if texts:
        yield Rows(texts, None, labels, number - len(texts) + 1)
    if not number:
        raise LxError(f"{folder}: a folder needs a sub-folder for each class with .txt files in it, such as pos/1.txt")
