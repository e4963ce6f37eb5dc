"""Fitting, predicting, keeping and refusing linear experts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lx.errors import ArgumentError, LxError
from lx.linear import expert as expert_module
from lx.linear import solver
from lx.linear.expert import LinearExpert
from lx.linear.settings import ExpertSettings

TOPICS = ("the cat purrs and naps", "the ship sails at dawn", "a tree grows tall leaves")
WORDS = sorted({word for topic in TOPICS for word in topic.split()})


def settings(**changes: Any) -> ExpertSettings:
    defaults: dict[str, Any] = {"words": "auto", "characters": "auto", "min_count": 2, "max_ngrams": 2_000_000}
    return ExpertSettings(**{**defaults, "C": "auto", **changes})


def corpus(num_classes: int = 3, rows: int = 60) -> tuple[list[str], np.ndarray]:
    """Texts of a few words of their topic, and a word of any."""
    draw = np.random.default_rng(0)
    labels = draw.integers(num_classes, size=rows)
    own = [" ".join(draw.choice(TOPICS[label].split(), 2)) for label in labels]
    return [f"{text} {draw.choice(WORDS)}" for text in own], labels


@pytest.fixture(scope="module", params=[2, 3])
def expert(request: pytest.FixtureRequest) -> LinearExpert:
    texts, labels = corpus(request.param)
    return LinearExpert.fit(texts, None, labels, "class", request.param, settings())


def test_learns_what_is_easy(expert: LinearExpert) -> None:
    texts = list(TOPICS[: expert.num_outputs])
    log_probabilities = expert.scores(texts, None)
    assert log_probabilities.dtype == np.float32
    assert log_probabilities.argmax(1).tolist() == list(range(expert.num_outputs))
    np.testing.assert_allclose(np.exp(log_probabilities).sum(1), 1, rtol=1e-5)


def test_texts_without_known_ngrams_get_the_bias(expert: LinearExpert) -> None:
    log_probabilities = expert.scores(["", "人工", "ξ"], None)
    assert np.isfinite(log_probabilities).all() and (log_probabilities[0] == log_probabilities).all()
    assert expert.scores([], None).shape == (0, expert.num_outputs)


def test_each_text_by_itself(expert: LinearExpert) -> None:
    texts, _ = corpus(expert.num_outputs, 300)
    alone = np.concatenate([expert.scores([text], None) for text in texts])
    np.testing.assert_allclose(expert.scores(texts, None), alone, rtol=0, atol=1e-5)


def test_the_same_again(expert: LinearExpert) -> None:
    texts, labels = corpus(expert.num_outputs)
    again = LinearExpert.fit(texts, None, labels, "class", expert.num_outputs, settings()).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in expert.state_dict().items())


def test_kept_as_tensors(expert: LinearExpert, tmp_path: Path) -> None:
    torch.save(expert.state_dict(), tmp_path / "linear.pt")
    loaded = LinearExpert.from_state_dict(torch.load(tmp_path / "linear.pt", weights_only=True))
    texts, _ = corpus()
    assert np.array_equal(loaded.scores(texts, None), expert.scores(texts, None))


def test_pairs() -> None:
    """What stands in the first text says nothing when it stands in the second."""
    texts, labels = corpus(2, 200)
    expert = LinearExpert.fit(texts, texts[::-1], labels, "class", 2, settings())
    assert (expert.scores(texts, texts[::-1]).argmax(1) == labels).mean() > 0.9
    with pytest.raises(LxError, match="2 texts a row, not 1"):
        expert.scores(texts, None)


def test_pairs_that_agree() -> None:
    """How much of the second text stands in the first can be learned, whatever the words."""
    draw = np.random.default_rng(0)
    firsts = [" ".join(draw.choice(WORDS, 4)) for _ in range(300)]
    labels = draw.integers(2, size=300)
    seconds = [first if label else firsts[i - 1] for i, (first, label) in enumerate(zip(firsts, labels, strict=True))]
    expert = LinearExpert.fit(firsts[:200], seconds[:200], labels[:200], "class", 2, settings(C=1.0))
    loaded = LinearExpert.from_state_dict(expert.state_dict())
    assert (loaded.scores(firsts[200:], seconds[200:]).argmax(1) == labels[200:]).mean() > 0.9


def test_pairs_in_which_one_text_alone_has_a_word() -> None:
    """Neither text by itself says anything: half of all texts have the word, whatever the label."""
    draw = np.random.default_rng(0)
    has_word = draw.integers(2, size=(300, 2))
    columns = [
        [" ".join([*draw.choice(WORDS, 4), *["not"] * has]) for has in has_word[:, column].tolist()]
        for column in (0, 1)
    ]
    labels = (has_word[:, 0] != has_word[:, 1]).astype(np.int64)
    train, test = ([column[part] for column in columns] for part in (slice(200), slice(200, None)))
    expert = LinearExpert.fit(*train, labels[:200], "class", 2, settings(C=1.0))
    assert (expert.scores(*test).argmax(1) == labels[200:]).mean() > 0.9


@pytest.mark.parametrize("older_overlaps", [0, 2])
def test_experts_of_pairs_by_an_older_lx_are_refused(older_overlaps: int) -> None:
    texts, labels = corpus(2)
    tensors = LinearExpert.fit(texts, texts[::-1], labels, "class", 2, settings()).state_dict()
    num_rows = len(tensors["hashes"]) + older_overlaps
    with pytest.raises(LxError, match=r"linear expert of pairs .* older lx, and has to be trained again"):
        LinearExpert.from_state_dict({**tensors, "weights": tensors["weights"][:num_rows]})
    with pytest.raises(LxError, match="weights of the linear expert"):
        LinearExpert.from_state_dict({**tensors, "weights": tensors["weights"][: num_rows + 1]})


@pytest.mark.parametrize("labels", [[0] * 9, [0] * 8 + [2], [0, 1, 2]])
def test_classes_with_few_rows_or_none(labels: list[int]) -> None:
    texts = [TOPICS[label] for label in labels]
    expert = LinearExpert.fit(texts, None, np.array(labels), "class", 4, settings(min_count=1))
    log_probabilities = expert.scores(texts, None)
    assert np.isfinite(log_probabilities).all() and (log_probabilities.argmax(1) != 3).all()


def test_no_ngram_occurs_twice() -> None:
    expert = LinearExpert.fit(["ab", "cd", "ef"], None, np.array([0, 1, 1]), "class", 2, settings())
    assert len(expert.vocabulary.hashes) == 0
    assert expert.scores(["ab"], None).argmax(1) == [1]


def test_the_most_frequent_ngrams_are_kept() -> None:
    texts, labels = corpus()
    expert = LinearExpert.fit(texts, None, labels, "class", 3, settings(words=[1, 1], characters=[0, 0], max_ngrams=3))
    counts = sorted((sum(word in text.split() for text in texts) for word in WORDS), reverse=True)
    idf = np.log((1 + len(texts)) / (1 + np.array(counts[:3]))) + 1
    np.testing.assert_allclose(np.sort(expert.vocabulary.idf), np.sort(idf), rtol=1e-6)


@pytest.mark.slow
def test_prediction_imports_neither_scikit_learn_nor_scipy(tmp_path: Path) -> None:
    texts, labels = corpus()
    torch.save(LinearExpert.fit(texts, None, labels, "class", 3, settings()).state_dict(), tmp_path / "linear.pt")
    code = (
        "import sys, torch; from lx.linear.expert import LinearExpert\n"
        f"expert = LinearExpert.from_state_dict(torch.load({str(tmp_path / 'linear.pt')!r}, weights_only=True))\n"
        "expert.scores(['the cat'], None)\n"
        "assert not {'sklearn', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


SPOILED: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "a tensor is missing": lambda t: {name: t[name] for name in t if name != "idf"},
    "a tensor too many": lambda t: {**t, "more": t["idf"]},
    "no tensor": lambda t: {**t, "weights": 3},
    "another dtype": lambda t: {**t, "idf": t["idf"].double()},
    "sparse": lambda t: {**t, "weights": t["weights"].to_sparse()},
    "fewer weights": lambda t: {**t, "weights": t["weights"][1:]},
    "more classes": lambda t: {**t, "bias": t["bias"].repeat(2)},
    "no classes": lambda t: {**t, "weights": t["weights"][:, :0], "bias": t["bias"][:0]},
    "weights not finite": lambda t: {**t, "weights": t["weights"] * float("nan")},
    "bias not finite": lambda t: {**t, "bias": t["bias"] + float("inf")},
    "huge weights": lambda t: {**t, "weights": torch.full_like(t["weights"], 3e38)},
    "idf of 0": lambda t: {**t, "idf": t["idf"] * 0},
    "hashes not sorted": lambda t: {**t, "hashes": t["hashes"].flip(0)},
    "a hash twice": lambda t: {**t, "hashes": t["hashes"].clone().index_fill_(0, torch.tensor(1), int(t["hashes"][0]))},
    "negative hashes": lambda t: {**t, "hashes": t["hashes"] - (1 << 60)},
    "hashes too large": lambda t: {**t, "hashes": t["hashes"] + (1 << 56)},
    "orders without end": lambda t: {**t, "orders": torch.tensor([[1, 10**9], [1, 2]])},
    "orders of another shape": lambda t: {**t, "orders": torch.tensor([1, 2])},
    "pairs without overlaps": lambda t: {**t, "texts_per_row": torch.tensor(2)},
    "three texts": lambda t: {**t, "texts_per_row": torch.tensor(3)},
}


@pytest.mark.parametrize("how", SPOILED)
def test_refuses_tensors_of_nothing_that_lx_wrote(how: str, expert: LinearExpert) -> None:
    with pytest.raises(LxError, match="linear expert"):
        LinearExpert.from_state_dict(SPOILED[how](expert.state_dict()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": [2, 1]}, "words="),
        ({"words": "all"}, "words="),
        ({"characters": [0, 3]}, "characters="),
        ({"characters": [2]}, "characters="),
        ({"characters": [2, 17]}, "16"),
        ({"words": [0, 0], "characters": [0, 0]}, "no n-grams"),
        ({"min_count": 0}, "min_count=0"),
        ({"max_ngrams": 0}, "max_ngrams=0"),
        ({"C": 0}, "C=0"),
        ({"C": "best"}, "C=best"),
    ],
)
def test_refuses_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        settings(**changes)


def test_chinese_is_read_by_characters() -> None:
    assert settings().orders(["人工智能 AI 很好"]) == ((0, 0), (1, 4))
    assert settings().orders(["The word 人工 is Chinese"]) == ((1, 2), (2, 5))
    assert settings(words=[1, 1], characters=[3, 3]).orders(["人工智能"]) == ((1, 1), (3, 3))


@pytest.mark.parametrize("max_rows", [10_000, 100])
def test_probabilities_are_calibrated(max_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On other texts neither sharper nor flatter probabilities are likelier, though one label in five is wrong."""
    monkeypatch.setattr(solver, "MAX_ROWS_OF_FOLDS", max_rows)
    texts, labels = corpus(3, 1200)
    wrong = np.random.default_rng(1).random(1200) < 0.2
    labels = np.where(wrong, (labels + 1) % 3, labels)
    expert = LinearExpert.fit(texts[:600], None, labels[:600], "class", 3, settings())
    log_probabilities = torch.from_numpy(expert.scores(texts[600:], None))
    expected = torch.from_numpy(labels[600:])
    flatter, as_they_are, sharper = (
        torch.nn.functional.cross_entropy(scale * log_probabilities, expected).item() for scale in (0.7, 1.0, 1.4)
    )
    assert as_they_are < min(flatter, sharper)


def test_more_characters_than_affordable(monkeypatch: pytest.MonkeyPatch) -> None:
    """About as many rows as have that many characters are taken, and the expert is good all the same."""
    texts, labels = corpus(3, 600)
    monkeypatch.setattr(expert_module, "MAX_CHARACTERS", sum(map(len, texts)) // 4)
    expert = LinearExpert.fit(texts, None, labels, "class", 3, settings())
    np.testing.assert_allclose(expert.vocabulary.idf.max(), np.log((1 + 600 // 4) / (1 + 2)) + 1, rtol=0.01)
    assert (expert.scores(texts, None).argmax(1) == labels).mean() > 0.8
    monkeypatch.setattr(expert_module, "MAX_CHARACTERS", 5)  # a row is taken even if its text has more
    assert LinearExpert.fit(texts, None, labels, "class", 3, settings()).num_outputs == 3
