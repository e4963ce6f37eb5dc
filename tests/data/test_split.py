"""The validation split that is taken from train."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lx.data.corpus.corpus import load_corpus
from lx.data.corpus.split import stratified_split
from lx.data.sources.files import FileSource
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings


def test_each_class_gives_its_share() -> None:
    counts = {0: 1000, 1: 200, 2: 30, 3: 7, 4: 2, 5: 1}
    labels = np.repeat(np.array(list(counts), np.int32), list(counts.values()))
    labels = np.random.default_rng(3).permutation(labels)
    hashes = np.arange(len(labels), dtype=np.uint64)
    chosen = stratified_split(labels, hashes, fraction=0.05, seed=0)
    assert Counter(labels[chosen].tolist()) == {0: 50, 1: 10, 2: 2, 3: 1, 4: 1}  # of one row, none


@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_train_keeps_a_row_of_each_class(fraction: float) -> None:
    labels = np.repeat(np.arange(11, dtype=np.int32), np.arange(1, 12))
    chosen = stratified_split(labels, np.arange(len(labels), dtype=np.uint64), fraction=fraction, seed=5)
    assert set(labels[~chosen].tolist()) == set(range(11))
    assert set(labels[chosen].tolist()) == set(range(1, 11))


def test_one_text_stays_on_one_side() -> None:
    rng = np.random.default_rng(7)
    hashes = rng.integers(0, 300, 2003).astype(np.uint64)
    labels = (hashes % 3).astype(np.int32)
    chosen = stratified_split(labels, hashes, fraction=0.1, seed=0)
    assert not set(hashes[chosen].tolist()) & set(hashes[~chosen].tolist())
    share = np.bincount(labels[chosen]) / np.bincount(labels)
    assert (share > 0.085).all() and (share <= 0.101).all()


def test_a_text_under_two_labels_stays_in_train() -> None:
    hashes = np.array([0, 0, 1, 2, 3, 4, 5, 6], np.uint64)
    labels = np.array([0, 1, 0, 0, 0, 1, 1, 1], np.int32)
    for seed in range(20):
        chosen = stratified_split(labels, hashes, fraction=0.6, seed=seed)
        assert not chosen[:2].any()
        assert chosen.sum() == 4


def test_a_class_of_one_repeated_text_stays_in_train() -> None:
    hashes = np.array([0, 0, 0, 1, 2, 3], np.uint64)
    labels = np.array([0, 0, 0, 1, 1, 1], np.int32)
    assert not stratified_split(labels, hashes, fraction=0.5, seed=0)[:3].any()


def test_the_seed_alone_decides() -> None:
    labels = np.zeros(101, np.int32)
    hashes = np.random.default_rng(0).integers(0, 2**63, 101).astype(np.uint64)
    first = stratified_split(labels, hashes, fraction=0.2, seed=0)
    assert np.array_equal(first, stratified_split(labels, hashes, fraction=0.2, seed=0))
    assert not np.array_equal(first, stratified_split(labels, hashes, fraction=0.2, seed=1))
    other = np.random.default_rng(1).integers(0, 2**63, 101).astype(np.uint64)
    assert np.array_equal(first, stratified_split(labels, other, fraction=0.2, seed=0))


def test_test_is_never_touched(tmp_path: Path) -> None:
    for split, count in (("train", 40), ("test", 60)):
        rows = "".join(f"{split} {n},{n % 2}\n" for n in range(count))
        (tmp_path / f"{split}.csv").write_text("text,label\n" + rows)
    source = FileSource(tmp_path / "train.csv", test=tmp_path / "test.csv")
    corpus = load_corpus(source, ClassEncoder(None), data_settings(tmp_path, validation_fraction=0.25))
    found = {name: [t for piece, _ in split.texts() for t in piece] for name, split in corpus.splits.items()}
    assert found["test"] == [f"test {n}" for n in range(60)]
    assert len(found["validation"]) == 10
    assert sorted(found["train"] + found["validation"]) == sorted(f"train {n}" for n in range(40))
    assert corpus.report.validation_was_split_off
    assert corpus.splits["validation"].path == corpus.splits["train"].path
