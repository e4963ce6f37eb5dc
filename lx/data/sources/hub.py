"""Labelled texts from the Hugging Face Hub, or from a local folder that is laid out like a Hub repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from lx.data.corpus.labels import shorten
from lx.data.sources.base import CHUNK, Rows, missing_column
from lx.data.sources.readers import Columns
from lx.data.sources.rows import plain_label
from lx.errors import LxError, did_you_mean
from lx.system.cache import digest


class HubSource:
    """A data set by its path on the Hub; it is downloaded on first use and then kept by ``datasets``.

    Args:
        path: Such as ``stanfordnlp/imdb``, or a local folder with Parquet, CSV or JSON files.
        name: Configuration of the data set, where it has several.
        revision: Branch, tag or commit; ``None`` for the main branch.
        train: Which of the data set's splits is trained on.
        validation: The one for validation; ``None`` to have it cut from train.
        test: The one for the test, if there is one whose labels are public.
        text: Column of the text.
        text_pair: Column of the second text, for tasks on pairs.
        label: Column of the label.
        class_names: Names in class-id order, instead of the data set's own.

    Raises:
        LxError: If ``path`` or ``train`` is not given.
    """

    def __init__(
        self,
        path: str | None,
        name: str | None = None,
        revision: str | None = None,
        train: str | None = "train",
        validation: str | None = None,
        test: str | None = None,
        text: str = "text",
        text_pair: str | None = None,
        label: str = "label",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if path is None:
            raise LxError("data.path is not set: name a data set of the Hub, such as data.path=stanfordnlp/imdb")
        if train is None:
            raise LxError("data.train is not set: name the split to train on, such as data.train=train")
        given = {"train": train, "validation": validation, "test": test}
        self._path, self._name, self._revision = path, name, revision
        self._names = {split: theirs for split, theirs in given.items() if theirs is not None}
        self._columns = Columns(text, text_pair, label)
        self._class_names = None if class_names is None else tuple(map(str, class_names))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that a split of the data set was named for."""
        return tuple(self._names)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names given, or else those the data set declares for its label column.

        Raises:
            LxError: If both are there and differ in number.
        """
        given, declared = self._class_names, self._declared_names
        if given and declared and len(given) != len(declared):
            raise LxError(
                f"data.class_names has {len(given)} names, but {self._path} has {len(declared)} classes: "
                f"{shorten(declared)}"
            )
        return given or declared

    @cached_property
    def _declared_names(self) -> tuple[str, ...] | None:
        names = getattr(self._tables["train"].features[self._columns.label], "names", None)
        return None if names is None else tuple(names)

    def fingerprint(self) -> str:
        """Made of the data set's own fingerprints, which follow its files, and of which columns are read."""
        prints = [(split, table._fingerprint) for split, table in self._tables.items()]
        return digest("hub", prints, self._columns, self.class_names)

    def read(self, split: str) -> Iterator[Rows]:
        """The rows of a split, a few thousand at a time.

        Raises:
            LxError: If a value is not what its column should hold, or the split's labels are hidden.
        """
        first = 1
        wanted = list(self._columns.keys().values())
        table = self._tables[split].select_columns(list(dict.fromkeys(wanted))).with_format("arrow")
        for batch in table.iter(CHUNK):
            texts, *pairs, labels = (batch.column(name).to_pylist() for name in wanted)
            yield Rows(
                texts=texts,
                pairs=pairs[0] if pairs else None,
                labels=[self._label(label, split, place) for place, label in enumerate(labels, first)],
                first=first,
            )
            first += len(texts)

    def _label(self, label: object, split: str, place: int) -> str | int | None:
        """A label by its name where the data set numbers them, since names are what a person sees."""
        names = self.class_names if self._declared_names is not None else None
        if names is None or label is None:
            return plain_label(label, self.locate(split, place))
        assert isinstance(label, int)
        if 0 <= label < len(names):
            return names[label]
        raise LxError(
            f"{self.locate(split, place)}: the label is {label}, which is no class: this split's labels are "
            f"hidden. Leave it out by data.{split}=null, or name another split"
        )

    def describe(self, split: str) -> str:
        """``stanfordnlp/imdb[train]``."""
        name = "" if self._name is None else f" {self._name}"
        return f"{self._path}{name}[{self._names[split]}]"

    def locate(self, split: str, place: int) -> str:
        """``stanfordnlp/imdb[train] row 17``."""
        return f"{self.describe(split)} row {place}"

    @cached_property
    def _tables(self) -> dict[str, Any]:
        """The data set's splits by our names, with their columns checked."""
        found = self._load()
        tables = {}
        for split, theirs in self._names.items():
            if theirs not in found:
                raise LxError(
                    f"{self._path}: there is no split {theirs!r}{did_you_mean(theirs, list(found))}. "
                    f"The splits are: {', '.join(found)}. Set data.{split}=..."
                )
            tables[split] = found[theirs]
            self._check(split, tables[split].features)
        return tables

    def _check(self, split: str, features: Any) -> None:
        """Refuse a split whose columns are missing or of a kind that cannot be used."""
        where = self.describe(split)
        for key, column in self._columns.keys().items():
            if column not in features:
                raise missing_column(where, key, column, list(features))
            kind = getattr(features[column], "dtype", None)
            good = ("string", "large_string", *(("bool", "int", "uint") if key == "data.label" else ()))
            if str(kind).startswith(good):
                continue
            wanted = "one string or integer a row" if key == "data.label" else "strings"
            raise LxError(f"{where}: the column {column!r} holds {features[column]}, not {wanted}. Set {key}=...")

    def _load(self) -> Any:
        """All splits of the data set, memory-mapped."""
        import datasets

        try:
            return datasets.load_dataset(self._path, self._name, revision=self._revision)
        except Exception as error:  # the loader lets through whatever its many parts raise
            reason = " ".join(str(error).split())[:300]
            config = "" if self._name is None else f" (configuration {self._name!r})"
            raise LxError(
                f"the data set {self._path!r}{config} cannot be loaded: {type(error).__name__}: {reason} "
                "Check data.path, data.name and the connection to the Hub. Without one, take local files: "
                "`lx train data=files data.train=train.csv`, or data.path=FOLDER with Parquet files in it"
            ) from error
