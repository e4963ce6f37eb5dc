"""The docstring corpus, built from small packages made here."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lx.data.corpus.corpus import load_corpus
from lx.data.sources.docstrings.extract import docstrings
from lx.data.sources.docstrings.source import DocstringSource
from lx.errors import LxError
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings

PACKAGES = ("alphalib", "betalib", "gammalib")
SHARED = '"""This very sentence stands word for word in two of the libraries, so it tells nothing."""\n'


def words(package: str, number: int) -> str:
    return f"Sentence {package[:4]} of thing number {'x' * (number + 1)} with enough words to be kept as a text."


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three packages of 40 modules with three strings each, which fail if they are imported."""
    for package in PACKAGES:
        root = tmp_path / "site" / package
        for folder in (root, root / "tests", root / "_vendor"):
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
        for number in range(40):
            strings = [words(package, 3 * number + n) for n in range(3)]
            (root / f"module_{number}.py").write_text(
                f'"""{strings[0]}"""\nclass A:\n    """{strings[1]}"""\n'
                f'    async def f(self):\n        """{strings[2]}"""\n'
            )
        (root / "repeat.py").write_text(f'"""{words(package, 0).upper()}"""\n')
        (root / "tests" / "cases.py").write_text(
            f'"""A case of {package[:4]} that is no more than about any other thing."""'
        )
        (root / "_vendor" / "other.py").write_text(
            f'"""The text of another library, which only happens to lie in {package[:4]} so."""'
        )
        (root / "broken.py").write_text('"""This file does not parse, and so it has no documentation at all."""\n(')
    for package in PACKAGES[:2]:
        (tmp_path / "site" / package / "shared.py").write_text(SHARED)
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path


def read(source: DocstringSource) -> dict[str, list[tuple[str | None, str | int | None]]]:
    return {
        split: [row for rows in source.read(split) for row in zip(rows.texts, rows.labels, strict=True)]
        for split in source.splits
    }


def test_texts(packages: Path) -> None:
    source = DocstringSource(PACKAGES, cache_dir=packages / "cache", workers=2)
    found = [row for rows in read(source).values() for row in rows]
    expected = {(words(package, n), package) for package in PACKAGES for n in range(120)}
    lowered = [(str(text).lower(), label) for text, label in found]
    assert len(lowered) == len(set(lowered)) == 360
    assert set(lowered) == {(text.lower(), label) for text, label in expected}


def test_the_number_of_workers_changes_nothing(packages: Path) -> None:
    results = [read(DocstringSource(PACKAGES, cache_dir=packages / str(n), workers=n)) for n in (1, 3)]
    assert results[0] == results[1]
    sizes = {split: len(rows) for split, rows in results[0].items()}
    assert sizes["train"] > 4 * sizes["validation"] > 0 and sizes["test"] > 0


def test_a_file_lies_in_one_split(packages: Path) -> None:
    found = read(DocstringSource(PACKAGES, cache_dir=packages / "cache", workers=1))
    split_of = {str(text).lower(): split for split, rows in found.items() for text, _ in rows}
    for package in PACKAGES:
        for number in range(1, 40):
            assert len({split_of[words(package, 3 * number + n).lower()] for n in range(3)}) == 1


def test_it_is_built_once(packages: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "lx"):
        first = read(DocstringSource(PACKAGES, cache_dir=packages / "cache", workers=1))
    assert "reading the documentation of 3 libraries (once) (" in caplog.text
    caplog.clear()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr("lx.data.sources.docstrings.source.extract", never)
    assert read(DocstringSource(PACKAGES, cache_dir=packages / "cache")) == first
    assert not caplog.text


def test_limits(packages: Path) -> None:
    source = DocstringSource(PACKAGES, min_words=5, max_words=7, max_per_class=11, cache_dir=packages, workers=1)
    rows = [row for rows in read(source).values() for row in rows]
    assert {label: sum(own == label for _, own in rows) for label in PACKAGES} == dict.fromkeys(PACKAGES, 11)
    assert all(len(str(text).split()) == 7 for text, _ in rows)
    everything = DocstringSource(PACKAGES, min_words=99, cache_dir=packages, workers=1)
    assert read(everything) == {"train": [], "validation": [], "test": []}
    with pytest.raises(LxError, match="docstrings: the train split has no rows"):
        load_corpus(everything, ClassEncoder(None), data_settings(packages))


def test_fingerprint_follows_the_options(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = [{}, {"min_words": 4}, {"max_words": 9}, {"max_per_class": 5}]
    prints = [DocstringSource(PACKAGES, **each).fingerprint() for each in options]  # type: ignore[arg-type]
    monkeypatch.setattr("lx.data.sources.docstrings.source.version", lambda name: "2.0")
    prints.append(DocstringSource(PACKAGES).fingerprint())
    assert len(set(prints)) == 5
    assert DocstringSource(PACKAGES, workers=7).fingerprint() == prints[-1]


def test_missing_packages(packages: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "lx"):
        source = DocstringSource([*PACKAGES, "deltalib"])
    assert source.class_names == PACKAGES
    assert "deltalib not installed; the corpus goes without" in caplog.text
    with pytest.raises(LxError, match=r"data\.packages: .*only alphalib, betalib can be found.* needs 3 at least"):
        DocstringSource(["alphalib", "betalib", "deltalib"])


def test_the_standard_library_is_python() -> None:
    source = DocstringSource(["python", "json", "asyncio"])
    assert source.class_names == ("asyncio", "json", "python")


def test_corpus(packages: Path) -> None:
    source = DocstringSource(PACKAGES, cache_dir=packages, workers=1)
    corpus = load_corpus(source, ClassEncoder(source.class_names), data_settings(packages, validation_fraction=0.5))
    assert corpus.label_set["class_names"] == list(PACKAGES)
    assert set(corpus.report.shared.values()) == {0}
    assert sum(len(split) for split in corpus.splits.values()) == 360


def test_docstrings_of_a_module() -> None:
    source = b'''"""module"""
if True:
    def f():
        """f"""
        class Inner:
            """inner"""
else:
    async def g():
        """g"""
try:
    pass
except ValueError:
    class H:
        x = 1
        """not one"""
        def m(self): "m"
match 1:
    case 1:
        def k(): """k"""
'''
    assert list(docstrings(source)) == ["module", "f", "inner", "g", "m", "k"]
    assert list(docstrings(b"def (")) == list(docstrings(b"\0")) == list(docstrings(b"")) == []
