"""The corpus that is already on the machine: documentation strings, labelled by the library they document."""

from __future__ import annotations

import logging
import os
import platform
import re
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from lx.data.arrow import read_batches
from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.docstrings.extract import extract
from lx.errors import LxError
from lx.system.cache import build_once, cache_home, digest
from lx.system.progress import track

log = logging.getLogger(__name__)

_CODE_VERSION = 1  # raised whenever the same sources would give other texts
_SPLITS = ("train", "validation", "test")
_FEWEST_CLASSES = 3
# Tests are left out since their strings are about cases, not about the library; vendored folders since
# their text documents another library than the one they lie in.
_LEFT_OUT = {"tests", "test", "testing", "idle_test", "_vendor", "vendor", "externals"}
_NOT_STDLIB = {"site-packages", "dist-packages", "idlelib", "lib2to3"}
_WORD = re.compile(r"[\"'(]*[^\W\d_][^\W\d_'’/-]*[\"').,:;!?]*")
_LEAST_PROSE = 0.6  # share of the words that must be words, not symbols or identifiers


@dataclass(frozen=True)
class _Text:
    text: str
    library: str
    split: str


class DocstringSource:
    """Texts are the prose of documentation strings; the label is the library, whose name is masked.

    Modules are read from their source files, never imported. A text that occurs more than once is kept once,
    and not at all if two libraries share it. Whole files go to one split (80, 10 and 10 percent), so that
    the near-copies of one file do not straddle splits.

    Args:
        packages: The libraries, by the name they are imported under; "python" is the standard library.
        min_words: Shorter texts are left out.
        max_words: Longer texts are cut.
        max_per_class: Most texts of one library; which are kept depends on their content alone.
        cache_dir: The cache folder; ``None`` for the default one.
        workers: Processes that read source files; ``None`` for one a core. The result does not depend on it.

    Raises:
        LxError: If fewer than three of the libraries are installed.
    """

    splits = _SPLITS

    def __init__(
        self,
        packages: Sequence[str],
        min_words: int = 10,
        max_words: int = 64,
        max_per_class: int = 8000,
        cache_dir: str | Path | None = None,
        workers: int | None = None,
    ) -> None:
        self._roots = {name: root for name in packages if (root := _root_of(name)) is not None}
        self._limits = (min_words, max_words, max_per_class)
        self._cache = cache_home(cache_dir)
        self._workers = workers or os.cpu_count() or 1
        missing = [name for name in packages if name not in self._roots]
        if len(self._roots) < _FEWEST_CLASSES:
            raise LxError(
                f"data.packages: of {', '.join(packages)}, only {', '.join(self._roots) or 'none'} can be "
                f"found on this machine, and the docstring corpus needs {_FEWEST_CLASSES} at least. "
                "Install more of them, or train on your own files with data=files data.train=..."
            )
        if missing:
            log.warning("docstrings: %s not installed; the corpus goes without", ", ".join(missing))
        self.class_names: tuple[str, ...] | None = tuple(sorted(self._roots))

    def fingerprint(self) -> str:
        """Made of the libraries' versions and of the options; nothing is read."""
        versions = [(name, _version_of(name)) for name in self._roots]
        return digest("docstrings", _CODE_VERSION, versions, self._limits)

    def read(self, split: str) -> Iterator[Rows]:
        """The texts of a split by library, file and line."""
        first = 1
        for batch in read_batches(self._file):
            rows = [row for row in batch.to_pylist() if row["split"] == split]
            if rows:
                yield Rows([row["text"] for row in rows], None, [row["library"] for row in rows], first)
                first += len(rows)

    def describe(self, split: str) -> str:
        """``docstrings``."""
        return "docstrings"

    def locate(self, split: str, row_number: int) -> str:
        """``docstrings, train text 17``."""
        return f"docstrings, {split} text {row_number}"

    @cached_property
    def _file(self) -> Path:
        """The corpus as an Arrow file, built now unless it is in the cache."""
        return build_once(self._cache / "docstrings" / self.fingerprint(), self._build) / "texts.arrow"

    def _build(self, folder: Path) -> None:
        files = [(name, root, file) for name, root in self._roots.items() for file in _sources(name, root)]
        texts_of_files = self._extract([file for _, _, file in files])
        texts = [
            _Text(text, name, _split_of(f"{name}/{file.relative_to(root).as_posix()}"))
            for (name, root, file), strings in zip(files, texts_of_files, strict=True)
            for text in strings
        ]
        schema = pa.schema([("text", pa.string()), ("library", pa.string()), ("split", pa.string())])
        with pa.ipc.new_file(str(folder / "texts.arrow"), schema) as writer:
            rows = _thin(texts, self._limits[2])
            table = pa.table({name: [getattr(text, name) for text in rows] for name in schema.names}, schema)
            writer.write_table(table, CHUNK)

    def _extract(self, files: list[Path]) -> list[list[str]]:
        """The usable texts of each file."""
        message = f"reading the documentation of {len(self._roots)} libraries (once)"
        with track(message, len(files), "files") as advance:
            texts_of_files = extract(files, list(self._roots), workers=self._workers, done=advance)
        least, most, _ = self._limits
        return [[first for text in strings if (first := _truncated(text, least, most))] for strings in texts_of_files]


def _root_of(name: str) -> Path | None:
    """The folder of a package's source, found without importing it."""
    if name == "python":
        return Path(sysconfig.get_path("stdlib"))
    spec = find_spec(name)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _version_of(name: str) -> str:
    if name == "python":
        return platform.python_version()
    try:
        return version(name)
    except PackageNotFoundError:  # a package of one's own, or one distributed under another name
        return "unknown"


def _sources(name: str, root: Path) -> list[Path]:
    """The source files of a library, sorted."""
    left_out = _LEFT_OUT | (_NOT_STDLIB if name == "python" else set())
    return [
        file
        for file in sorted(root.rglob("*.py"))
        if not left_out.intersection(file.relative_to(root).parts[:-1]) and not file.name.startswith("test_")
    ]


def _split_of(path: str) -> str:
    """Which split a file belongs to, from its path alone."""
    tenth = int.from_bytes(blake2b(path.encode(), digest_size=8, person=b"docstrings").digest(), "big") % 10
    return "test" if tenth == 9 else "validation" if tenth == 8 else "train"


def _truncated(text: str, least: int, most: int) -> str:
    """The first words of a text, or nothing if it is too short or mostly symbols."""
    words = text.split()
    prose = sum(_WORD.fullmatch(word) is not None for word in words)
    return " ".join(words[:most]) if len(words) >= least and prose >= _LEAST_PROSE * len(words) else ""


def _thin(texts: list[_Text], most: int) -> list[_Text]:
    """Leave out repeats, texts that stand in two libraries, and those of a library beyond ``most``."""
    libraries: dict[str, set[str]] = {}
    first: dict[str, _Text] = {}
    for text in texts:
        libraries.setdefault(text.text.lower(), set()).add(text.library)
        first.setdefault(text.text.lower(), text)
    unique = {key: text for key, text in first.items() if len(libraries[key]) == 1}
    chosen: set[str] = set()
    for library in {text.library for text in texts}:
        own = [key for key, text in unique.items() if text.library == library]
        chosen.update(sorted(own, key=lambda key: blake2b(key.encode(), digest_size=8).digest())[:most])
    return [text for key, text in unique.items() if key in chosen]
