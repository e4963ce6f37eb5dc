"""What letters and n-grams contribute to a score of the linear expert."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from lx.linear.contributions import contributions
from lx.linear.expert import LinearExpert
from lx.linear.ngrams import Occurrences, count_ngrams, find_occurrences
from lx.linear.settings import ExpertSettings

TEXTS = ["the cat purrs, the cat naps", "the ship  sails at dawn", "a tree grows tall", "猫 sleeps 猫", "Don't  the"]
LABELS = np.array([0, 1, 2, 0, 1])


def fit(num_classes: int, pairs: list[str] | None = None) -> LinearExpert:
    settings = ExpertSettings(words=[1, 2], characters=[1, 4], min_count=1, max_ngrams=10_000, C=0.3)
    repeated = [*TEXTS] * 4
    return LinearExpert.fit(
        repeated, None if pairs is None else pairs * 4, np.tile(LABELS % num_classes, 4), "class", num_classes, settings
    )


def against_the_others(num_classes: int) -> np.ndarray:
    return np.eye(num_classes)[1] - (1 - np.eye(num_classes)[1]) / (num_classes - 1)


@pytest.mark.parametrize("num_classes", [2, 3])
@pytest.mark.parametrize("of_pairs", [False, True])
def test_all_contributions_add_up_to_the_score(num_classes: int, of_pairs: bool) -> None:
    pairs = [text[::-1] + " the cat" for text in TEXTS[:3]] + [TEXTS[3], ""] if of_pairs else None
    expert = fit(num_classes, pairs)
    coefficients = against_the_others(num_classes)
    for row, text in enumerate(["the cat and the 猫", *TEXTS]):
        texts = [text] if pairs is None else [text, pairs[row % len(TEXTS)]]
        found = contributions(expert, texts, coefficients)
        total = found.start + sum(part.sum() for part in found.characters) + sum(found.rest.values())
        expected = expert.scores(texts[:1], texts[1:] or None)[0] @ coefficients
        assert total == pytest.approx(expected, abs=1e-4)
        assert sum(effect for _, effect in found.ngrams) + found.start + sum(
            value for name, value in found.rest.items() if "both" in name
        ) == pytest.approx(expected, abs=1e-4)
        assert all((part == 0)[[c.isspace() for c in t]].all() for part, t in zip(found.characters, texts, strict=True))


def test_the_words_of_a_class_speak_for_it() -> None:
    expert = fit(3)
    text = "an unknown tree"
    found = contributions(expert, [text], np.array([-0.5, -0.5, 1.0]))
    letters = found.characters[0]
    assert letters[text.index("tree") :].sum() > 5 * abs(letters[: text.index("tree")].sum())
    assert found.ngrams[0][0] in ("tree", "‹tree›", "‹ tre›") and found.ngrams[0][1] > 0


def test_an_ngram_is_divided_equally_among_its_letters() -> None:
    expert = fit(2)
    expert.vocabulary.idf[:] = 1
    expert.weights[:] = 0
    ((words, _),) = find_occurrences(["the cat"], (2, 2), (0, 0))
    expert.weights[np.searchsorted(expert.vocabulary.hashes, words.hashes[0])] = 6
    letters = contributions(expert, ["the cat"], np.array([-1.0, 1.0])).characters[0]
    assert letters[3] == 0 and letters.sum() > 0
    np.testing.assert_allclose(letters[[0, 1, 2, 4, 5, 6]], letters[0])


@pytest.mark.parametrize("orders", [((1, 2), (2, 4)), ((0, 0), (1, 3)), ((2, 3), (0, 0)), ((1, 9), (9, 12))])
def test_the_occurrences_are_those_that_are_counted(orders: tuple[tuple[int, int], tuple[int, int]]) -> None:
    for text in [*TEXTS, "x", " . ", "a a a a"]:
        (bags,) = count_ngrams([[text]], *orders)
        (occurrences,) = find_occurrences([text], *orders)
        for kind, found in enumerate(occurrences):
            chosen = bags.bag == kind
            counted = dict(zip(bags.hashes[chosen].tolist(), bags.counts[chosen].tolist(), strict=True))
            assert Counter(found.hashes.tolist()) == counted
            assert_distinct_spans(found)


@pytest.mark.parametrize("orders", [((1, 2), (2, 4)), ((0, 0), (1, 3)), ((2, 3), (0, 0))])
@pytest.mark.parametrize("pair", [("a cat, a dog", "the cat  a CAT"), ("a b a", "a b a"), ("ab", ""), ("", "ab")])
def test_the_occurrences_in_pairs_are_those_that_are_counted(
    pair: tuple[str, str], orders: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    (bags,) = count_ngrams([[text] for text in pair], *orders)
    occurrences = find_occurrences(pair, *orders)
    for kind, (first, second) in enumerate(zip(*occurrences, strict=True)):
        in_first, in_second = Counter(first.hashes.tolist()), Counter(second.hashes.tolist())
        shared = in_first & in_second
        alone = [Counter({n: c for n, c in own.items() if n not in shared}) for own in (in_first, in_second)]
        for role, expected in enumerate([shared, *alone]):
            chosen = bags.bag == 3 * kind + role
            assert expected == dict(zip(bags.hashes[chosen].tolist(), bags.counts[chosen].tolist(), strict=True))
        assert_distinct_spans(first)
        assert_distinct_spans(second)


def assert_distinct_spans(found: Occurrences) -> None:
    assert (found.starts < found.ends).all()
    assert len(set(zip(found.starts.tolist(), found.ends.tolist(), strict=True))) == len(found.ends)


def test_a_shared_ngram_is_divided_equally_among_its_occurrences_in_both_texts() -> None:
    expert = fit(2, TEXTS)
    expert.weights[:] = 0
    texts = ["the cat, the", "cats: the"]
    ((words, _), _) = find_occurrences(texts, (1, 1), (0, 0))
    expert.weights[np.searchsorted(expert.vocabulary.hashes, words.hashes[0])] = 6
    found = contributions(expert, texts, np.array([-1.0, 1.0]))
    total = expert.scores(texts[:1], texts[1:])[0] @ [-1, 1] - found.start
    assert total > 1
    first, second = found.characters
    np.testing.assert_allclose(first[[0, 1, 2, 9, 10, 11]], total / 9, rtol=1e-5)
    np.testing.assert_allclose(second[6:], total / 9, rtol=1e-5)
    assert not first[3:9].any() and not second[:6].any()
    names = [name for name, effect in found.ngrams if effect]
    assert names == ["the"]
