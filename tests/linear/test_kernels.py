"""The kernels against numpy: the same n-grams, the same hashes found, the same probabilities up to rounding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from lx.kernels import ngrams as kernels
from lx.linear.expert import LinearExpert
from lx.linear.ngrams import Bags, Orders, count_ngrams
from lx.linear.settings import ExpertSettings

pytestmark = pytest.mark.skipif(not kernels.available(), reason="takes a C compiler")

TEXTS = [
    "The cat sat on the mat; the CAT sat.",
    "",
    "x",
    "Größe_ÄPFEL 12a",
    "İstanbul 人工智能 🙂\U0010ffff a\ud800b\0c",
    "..., !",
    "ab" * 300,
]
ALIKE = [TEXTS, ["A cat sat on a mat, a mat", "", "x y", "Größe 12a 12a", "人工", "!", "ba" * 200]]


@pytest.fixture(params=[1, 3])
def _threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def ordered(chunks: list[Bags]) -> list[tuple[np.ndarray, ...]]:
    """Bags, hashes, counts and overlaps of each chunk, the hashes of a bag in ascending order."""
    orders = [np.lexsort((chunk.hashes, chunk.bag)) for chunk in chunks]
    return [
        (chunk.bag[order], chunk.hashes[order], chunk.counts[order], chunk.overlaps)
        for chunk, order in zip(chunks, orders, strict=True)
    ]


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("columns", [[TEXTS * 60], [TEXTS, TEXTS[::-1]], ALIKE, [["", "."]], [[]]])
@pytest.mark.parametrize(("words", "characters"), [((1, 2), (2, 5)), ((0, 0), (1, 4)), ((2, 3), (0, 0))])
def test_counts_are_numpys(
    columns: list[list[str]], words: Orders, characters: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = list(count_ngrams(columns, words, characters))
    monkeypatch.setattr(kernels, "available", lambda: False)
    reference = list(count_ngrams(columns, words, characters))
    assert len(compiled) == len(reference) == (len(columns[0]) > 0) + (len(columns[0]) > 128) * 3
    for one, other in zip(ordered(compiled), ordered(reference), strict=True):
        assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("spacing", [2, 1 << 46])
@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_hashes_are_found(size: int, spacing: int) -> None:
    """In tables of hashes that are spread out, and that have all of their upper bits in common."""
    table = np.arange(size, dtype=np.uint64) * np.uint64(spacing)
    indices = np.random.default_rng(0).permutation(size)
    found = kernels.HashTable(table)
    assert np.array_equal(found.find(table[indices]), indices)
    assert (found.find(np.array([1, (1 << 56) - 1], np.uint64)) == -1).all()


def test_probabilities_are_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["cat", "Dog", "ship", "tree", "sun", "moon"], 9)) for _ in range(90)]
    labels = np.array([text.count("cat") > text.count("Dog") for text in texts], np.int64)
    settings = ExpertSettings("auto", "auto", 2, 10_000, 0.3)
    expert = LinearExpert.fit(texts, None, labels, "class", 2, settings)
    compiled = expert.scores(texts, None)
    monkeypatch.setattr(kernels, "available", lambda: False)
    np.testing.assert_allclose(expert.scores(texts, None), compiled, rtol=1e-5, atol=1e-6)
    refitted = LinearExpert.fit(texts, None, labels, "class", 2, settings)
    np.testing.assert_allclose(refitted.scores(texts, None), compiled, rtol=1e-3, atol=1e-4)
