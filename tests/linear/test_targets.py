"""What a linear expert learns: label sets and numbers; tests/linear/test_expert.py has classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lx.errors import LxError
from lx.linear import solver
from lx.linear.expert import LinearExpert
from lx.linear.settings import C_OF_RIDGE, ExpertSettings
from lx.linear.targets import LabelSet, Number

WORDS = ("cat", "ship", "tree", "stone")
LABEL_OF_WORD = np.eye(4, 3, dtype=bool)  # of the last word there is none


def settings() -> ExpertSettings:
    return ExpertSettings("auto", "auto", min_count=2, max_ngrams=2_000_000, C="auto")


def corpus(rows: int = 300) -> tuple[list[str], np.ndarray]:
    """Texts of two words, and which of the words they have [N, 4]."""
    draws = np.random.default_rng(0).integers(4, size=(rows, 2))
    return [f"{WORDS[a]} {WORDS[b]}" for a, b in draws], (draws[:, :, None] == np.arange(4)).any(1)


def test_label_sets() -> None:
    texts, has_word = corpus()
    labels = has_word @ LABEL_OF_WORD
    expert = LinearExpert.fit(texts[:200], None, labels[:200], "labels", 3, settings())
    assert expert.num_outputs == 3
    scores = expert.scores(texts[200:], None)
    assert ((scores > 0) == labels[200:]).all()
    loaded = LinearExpert.from_state_dict(expert.state_dict())
    assert (loaded.kind, loaded.num_outputs) == ("labels", 3)
    assert np.array_equal(loaded.scores(texts, None), expert.scores(texts, None))


def test_a_label_that_no_text_has_or_every_one() -> None:
    texts, has_word = corpus(60)
    labels = np.stack([np.zeros(60, bool), has_word[:, 0], np.ones(60, bool)], axis=1)
    scores = LinearExpert.fit(texts, None, labels, "labels", 3, settings()).scores(texts, None)
    assert np.isfinite(scores).all()
    assert (scores[:, 0] < 0).all() and (scores[:, 2] > 0).all()
    assert ((scores[:, 1] > 0) == labels[:, 1]).all()


def test_a_single_label_and_two_of_them_are_no_classes() -> None:
    texts, has_word = corpus(60)
    for count in (1, 2):
        expert = LinearExpert.fit(texts, None, has_word[:, :count], "labels", count, settings())
        assert expert.scores(texts, None).shape == (60, count) == (60, expert.num_outputs)


def test_log_odds_are_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other texts neither sharper nor flatter probabilities are likelier, though one label in five is wrong."""
    texts, has_word = corpus(1200)
    labels = (has_word @ LABEL_OF_WORD) ^ (np.random.default_rng(1).random((1200, 3)) < 0.2)
    expert = LinearExpert.fit(texts[:600], None, labels[:600], "labels", 3, settings())
    log_odds, truth = torch.from_numpy(expert.scores(texts[600:], None)), torch.from_numpy(labels[600:]).float()
    flatter, as_they_are, sharper = (
        torch.nn.functional.binary_cross_entropy_with_logits(scale * log_odds, truth).item() for scale in (0.6, 1, 1.6)
    )
    assert as_they_are < min(flatter, sharper)


@pytest.mark.parametrize("max_rows", [10_000, 100])
def test_numbers(max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "MAX_ROWS_OF_FOLDS", max_rows)
    texts, has_word = corpus()
    labels = has_word @ np.array([2.0, -1.0, 0.5, 0.0]) + np.random.default_rng(1).normal(0, 0.1, 300)
    expert = LinearExpert.fit(texts[:200], None, labels[:200], "number", 1, settings())
    assert expert.num_outputs == 1
    scores = expert.scores(texts[200:], None)
    assert scores.shape == (100, 1) and scores.dtype == np.float32
    assert np.corrcoef(scores[:, 0], labels[200:])[0, 1] > 0.95
    loaded = LinearExpert.from_state_dict(expert.state_dict())
    assert np.array_equal(loaded.scores(texts, None), expert.scores(texts, None))
    validated = expert.validated
    assert validated is not None and validated.c in C_OF_RIDGE
    assert np.corrcoef(validated.scores[:, 0], labels[:200][validated.rows])[0, 1] > 0.95


def test_numbers_that_texts_say_nothing_about_want_the_smallest_c() -> None:
    texts, _ = corpus()
    labels = np.random.default_rng(1).normal(size=300)
    expert = LinearExpert.fit(texts, None, labels, "number", 1, settings())
    assert expert.validated is not None and expert.validated.c == C_OF_RIDGE[0]
    assert np.abs(expert.scores(texts, None)).mean() < 0.3


def test_numbers_of_texts_without_a_known_ngram_are_the_mean() -> None:
    expert = LinearExpert.fit(["ab", "cd", "ef"], None, np.array([1.0, 2.0, 6.0]), "number", 1, settings())
    assert expert.scores(["x"], None) == pytest.approx(np.array([[3.0]]))


def test_ridge_regression_is_that_of_its_formula() -> None:
    """W = (X'X + I/C)^-1 X'y, of centred features and labels (Hoerl and Kennard 1970)."""
    from scipy.sparse import csr_matrix

    draw = np.random.default_rng(0)
    features, labels = draw.normal(size=(50, 4)), draw.normal(size=50)
    fitted = Number().fit(csr_matrix(features), labels, c=0.5)
    centred = features - features.mean(0)
    weights = np.linalg.solve(centred.T @ centred + np.eye(4) / 0.5, centred.T @ (labels - labels.mean()))
    assert fitted.weights[:, 0] == pytest.approx(weights, abs=1e-3)
    assert fitted.bias == pytest.approx(labels.mean() - features.mean(0) @ weights, abs=1e-3)


def test_every_stride_of_a_shuffle_is_like_the_whole() -> None:
    labels = np.random.default_rng(0).random((3000, 3)) < [0.5, 0.1, 0.01]
    numbers = np.random.default_rng(0).normal(size=3000)
    for shuffled in (LabelSet(3).shuffle(labels), Number().shuffle(numbers)):
        assert np.array_equal(np.sort(shuffled), np.arange(3000))
    for start in range(3):
        assert labels[LabelSet(3).shuffle(labels)[start::3], 2].sum() == pytest.approx(labels[:, 2].sum() / 3, abs=1)
        assert numbers[Number().shuffle(numbers)[start::3]].mean() == pytest.approx(numbers.mean(), abs=0.01)


@pytest.mark.parametrize("kind", [-1, 3])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    texts, has_word = corpus(60)
    tensors = LinearExpert.fit(texts, None, has_word[:, :1], "labels", 1, settings()).state_dict()
    with pytest.raises(LxError, match="kind of the linear expert"):
        LinearExpert.from_state_dict({**tensors, "kind": torch.tensor(kind)})
