"""Labelled texts from the Hugging Face Hub, or from a local folder that is laid out like a Hub repository."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from lx.data.sources.base import CHUNK, Rows
from lx.data.sources.columns import Columns
from lx.data.sources.rows import split_label
from lx.errors import LxError, MissingDataError, did_you_mean, shorten
from lx.system.cache import digest
from lx.system.private_api import dataset_fingerprint


class HubSource:
    """A data set by its path on the Hub; it is downloaded on first use and then kept by ``datasets``.

    Args:
        path: Such as ``stanfordnlp/imdb``, or a local folder with Parquet, CSV or JSON files.
        name: Configuration of the data set, where it has several.
        revision: Branch, tag or commit; ``None`` for the main branch.
        train: Which of the data set's splits is trained on.
        validation: The one for validation; ``None`` to have it cut from train.
        test: The one for the test, if there is one whose labels are public.
        text, text_pair, label, label_separator, class_names: As for :class:`lx.data.sources.files.FileSource`. Labels
            may be lists; the names replace the data set's own.

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
        label_separator: str | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        if path is None:
            raise LxError("data.path is not set: name a data set of the Hub, such as data.path=stanfordnlp/imdb")
        if train is None:
            raise LxError("data.train is not set: name the split to train on, such as data.train=train")
        names = {"train": train, "validation": validation, "test": test}
        self._path, self._name, self._revision = path, name, revision
        self._names = {split: hub_name for split, hub_name in names.items() if hub_name is not None}
        self._columns = Columns(text, text_pair, label)
        self._label_separator = label_separator
        self._class_names = None if class_names is None else tuple(map(str, class_names))

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that have a split of the data set."""
        return tuple(self._names)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names given, else those declared for the label column; LxError if both are there and differ in number."""
        own, declared = self._class_names, self._declared_names
        if own and declared and len(own) != len(declared):
            raise LxError(
                f"data.class_names has {len(own)} names, but {self._path} has {len(declared)} classes: "
                f"{shorten(declared)}"
            )
        return own or declared

    @cached_property
    def _declared_names(self) -> tuple[str, ...] | None:
        feature = self._tables["train"].features[self._names_in("train")[-1]]
        feature = getattr(feature, "feature", feature)  # of a list, that of its items
        names = getattr(feature, "names", None)
        return None if names is None else tuple(names)

    def fingerprint(self) -> str:
        """Combine the data set's own fingerprints, which follow its files, with which columns are read."""
        prints = [(split, dataset_fingerprint(table)) for split, table in self._tables.items()]
        separator = [] if self._label_separator is None else [self._label_separator]
        return digest("hub", prints, self._columns, self.class_names, *separator)

    def read(self, split: str) -> Iterator[Rows]:
        """Yield the rows of a split, a few thousand at a time; raise LxError if its labels are hidden."""
        first = 1
        columns = self._names_in(split)
        named = self.class_names if self._declared_names is not None else None
        table = self._tables[split].select_columns(list(dict.fromkeys(columns))).with_format("arrow")
        for batch in table.iter(CHUNK):
            texts, *pairs, labels = (batch.column(name).to_pylist() for name in columns)
            if named is not None:
                labels = [self._by_name(label, named, split, row) for row, label in enumerate(labels, first)]
            elif self._label_separator is not None:
                labels = [split_label(label, self._label_separator) for label in labels]
            self._refuse_missing_labels(split, first, texts, labels)
            yield Rows(texts, pairs[0] if pairs else None, labels, first)
            first += len(texts)

    def _names_in(self, split: str) -> list[str]:
        """Return the columns to read, as a split spells them: text, text pair, label."""
        names = list(self._tables[split].features)
        return [names[index] for index in self._columns.find(self.describe(split), names)]

    def _refuse_missing_labels(self, split: str, first: int, texts: list[str | None], labels: list[Any]) -> None:
        if None not in labels:
            return
        for row_number, (text, label) in enumerate(zip(texts, labels, strict=True), first):
            if label is None and text and not text.isspace():
                raise LxError(
                    f"{self.locate(split, row_number)}: the label is empty. From a CSV file datasets reads NA, N/A, "
                    "nan, null and None as missing: if one of these is a class, read the file itself by data=files. "
                    "Else fill it in or remove the row"
                )

    def _by_name(self, label: Any, names: Sequence[str], split: str, row_number: int) -> Any:
        """Replace a class id by its name, which is what the user sees; of a list, each."""
        if isinstance(label, list):
            return [self._by_name(item, names, split, row_number) for item in label]
        if label is None:
            return None
        if 0 <= label < len(names):
            return names[label]
        raise LxError(
            f"{self.locate(split, row_number)}: the label is {label}, which is no class: this split's labels are "
            f"hidden. Leave it out by data.{split}=null, or name another split"
        )

    def describe(self, split: str) -> str:
        """``stanfordnlp/imdb[train]``."""
        name = "" if self._name is None else f" {self._name}"
        return f"{self._path}{name}[{self._names[split]}]"

    def locate(self, split: str, row_number: int) -> str:
        """``stanfordnlp/imdb[train] row 17``."""
        return f"{self.describe(split)} row {row_number}"

    @cached_property
    def _tables(self) -> dict[str, Any]:
        """The data set's splits under lx's names, with their columns checked."""
        hub_splits = self._load()
        tables = {}
        for split, hub_name in self._names.items():
            if hub_name not in hub_splits:
                raise LxError(
                    f"{self._path}: there is no split {hub_name!r}{did_you_mean(hub_name, list(hub_splits))}. "
                    f"The splits are: {', '.join(hub_splits)}. Set data.{split}=..."
                )
            tables[split] = hub_splits[hub_name]
            self._check(split, tables[split].features)
        return tables

    def _check(self, split: str, features: Any) -> None:
        """Refuse a split whose columns are missing or whose texts are not strings."""
        where = self.describe(split)
        names = list(features)
        *texts, _ = (names[index] for index in self._columns.find(where, names))
        for option, column in zip(self._columns.named(), texts, strict=False):
            if not str(getattr(features[column], "dtype", None)).startswith(("string", "large_string")):
                raise LxError(f"{where}: the column {column!r} holds {features[column]}, not strings. Set {option}...")

    def _load(self) -> Any:
        """Load all splits of the data set, memory-mapped."""
        import datasets

        try:
            return datasets.load_dataset(self._path, self._name, revision=self._revision)
        except Exception as error:  # the loader raises whatever its many parts raise
            reason = " ".join(str(error).split())[:300]
            config = "" if self._name is None else f" (configuration {self._name!r})"
            raise MissingDataError(
                f"the data set {self._path!r}{config} cannot be loaded: {type(error).__name__}: {reason} "
                "Check data.path, data.name and the connection to the Hub. Without one, take local files: "
                "`lx train data=files data.train=train.csv`, or data.path=FOLDER with Parquet files in it"
            ) from error
