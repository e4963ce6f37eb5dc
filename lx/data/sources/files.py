"""Labelled texts in the user's own files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b, file_digest
from pathlib import Path
from typing import Any

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.columns import Columns
from lx.data.sources.content import open_text, unreadable
from lx.data.sources.readers import is_known, known_extensions, read_rows
from lx.data.sources.rows import split_label
from lx.errors import LxError, MissingDataError, did_you_mean, printable, shorten
from lx.system.cache import digest


class FileSource:
    """A file for each split, or a folder with a sub-folder of ``.txt`` files for each class.

    The extension says the format: ``.csv``, ``.tsv``, ``.jsonl`` (``.ndjson``, ``.json``) with or without
    ``.gz``, or ``.parquet``; where the content is plainly another of these formats, the content decides. Files are
    UTF-8, with a byte-order mark or not.

    Args:
        train: The train split; None for evaluation, which reads the test split alone.
        validation: The validation split; ``None`` to have one cut from train.
        test: The test split, if there is one.
        text: Column of the text.
        text_pair: Column of the second text, for tasks on pairs.
        label: Column of the label.
        label_separator: What stands between the labels of a text that has several, such as ``|``; None: one label.
        class_names: Names in class-id order; then integer labels are positions in this list.

    Raises:
        LxError: If ``train`` and ``test`` are not given, a file is not there or no regular file, or of no known kind.
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
        if train is None and test is None:
            raise LxError(
                "data.train is not set: name your training file, for example "
                "`lx train data=files data.train=train.csv data.test=test.csv`"
            )
        paths = {"train": train, "validation": validation, "test": test}
        self._paths = {split: _expand(path, f"data.{split}") for split, path in paths.items() if path is not None}
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
            files = [path] if path.is_file() else [file for _, file in _list_folder(path).texts]
            for file in files:
                name = str(file.relative_to(path)) if path.is_dir() else "".join(file.suffixes)
                try:
                    with file.open("rb") as opened:
                        contents.append((split, name, file_digest(opened, lambda: blake2b(digest_size=16)).hexdigest()))
                except OSError as error:
                    raise unreadable(file, error) from error
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
            return str(_list_folder(path).texts[row_number - 1][1])
        return f"{path}:{row_number}"

    def notes(self, split: str) -> Sequence[str]:
        """What was left out of a folder of texts."""
        path = self._paths[split]
        return _list_folder(path).notes(path) if path.is_dir() else ()


def _expand(path: str | Path, key: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise LxError(f"{key}={path}: there is no such user's folder. Write the path out") from error


def _check(path: Path, key: str) -> None:
    """Refuse a path that is not there, no regular file, or of no known format."""
    try:
        if path.is_dir():
            return
        if not path.exists():
            raise _missing(path, key)
    except OSError as error:  # a folder above that may not be entered, a name that is too long
        raise LxError(f"{key}: {printable(str(path))} cannot be read: {error.strerror or error}") from error
    if not path.is_file():
        raise LxError(f"{key}: {path} is a pipe or a device, and data is read more than once: save it in a file")
    if not is_known(path):
        raise LxError(
            f"{key}: {path} has the extension {path.suffix or '(none)'!r}, which is not a known format. "
            f"Known are {', '.join(known_extensions())}, and a folder with a sub-folder for each class"
        )


def _missing(path: Path, key: str) -> MissingDataError:
    if path.is_symlink():
        return MissingDataError(f"{key}: {path} is a link to {path.readlink()}, which does not exist")
    siblings = sorted(file.name for file in path.parent.iterdir()) if path.parent.is_dir() else []
    hint = did_you_mean(path.name, siblings)
    missing_folder = "" if path.parent.is_dir() else f" (nor is the folder {path.parent})"
    return MissingDataError(f"{key}: there is no file {path}{missing_folder}{hint}. Paths start from {Path.cwd()}")


@dataclass(frozen=True)
class _Folder:
    """A folder of classes: class name and path of every text, sorted; and what is left out."""

    texts: list[tuple[str, Path]]
    hidden: list[Path]
    without_texts: list[str]

    def notes(self, path: Path) -> list[str]:
        """Return sentences on what was left out."""
        sentences = []
        if self.hidden:
            sentences.append(f"{path}: {len(self.hidden):,} hidden files, such as {self.hidden[0].name}, are left out")
        if self.without_texts:
            sentences.append(f"{path}: no .txt files, and so no class, in {shorten(self.without_texts, 5)}")
        return sentences


def _list_folder(folder: Path) -> _Folder:
    """List a folder of classes; raise LxError if it, or one inside it, cannot be read."""
    texts: list[tuple[str, Path]] = []
    hidden: list[Path] = []
    without_texts: list[str] = []
    inner = folder
    try:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            files = sorted(file for file in inner.iterdir() if file.suffix.lower() == ".txt")
            shown = [file for file in files if not file.name.startswith(".")]
            texts += [(inner.name, file) for file in shown]
            hidden += [file for file in files if file.name.startswith(".")]
            if not shown:
                without_texts.append(inner.name)
    except OSError as error:
        raise unreadable(inner, error) from error
    return _Folder(texts, hidden, without_texts)


def _read_folder(folder: Path) -> Iterator[Rows]:
    """Read every ``CLASS/NAME.txt`` of a folder; a row number is the number of the file."""
    texts: list[str | None] = []
    labels: list[Any] = []
    number = 0
    for number, (label, path) in enumerate(_list_folder(folder).texts, 1):
        with open_text(path, newline=None) as file:
            texts.append(file.read())
        labels.append(label)
        if len(texts) == CHUNK:
            yield Rows(texts, None, labels, number - len(texts) + 1)
            texts, labels = [], []
    if texts:
        yield Rows(texts, None, labels, number - len(texts) + 1)
    if not number:
        tables = sorted(path.name for path in folder.iterdir() if is_known(path))
        hint = f". If {shorten(tables, 3)} in it is meant, name the file itself" if tables else ""
        raise LxError(
            f"{folder}: a folder needs a sub-folder for each class with .txt files in it, such as pos/1.txt{hint}"
        )
