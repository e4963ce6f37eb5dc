from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from lx.data.corpus.corpus import Corpus, load_corpus
from lx.data.expert import ExpertTarget, FittedExpert, fit_expert
from lx.data.sources.files import FileSource
from lx.linear.expert import LinearExpert
from lx.linear.settings import ExpertSettings
from lx.tasks.class_labels import ClassEncoder
from support.corpus import data_settings, write_rows


def settings(refit: bool = True) -> ExpertSettings:
    return ExpertSettings("auto", "auto", min_count=1, max_ngrams=10_000, C="auto", refit=refit)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    files = {
        split: str(write_rows(folder / f"{split}.jsonl", count, start))
        for split, count, start in (("train", 40, 0), ("validation", 20, 100), ("test", 17, 200))
    }
    return load_corpus(FileSource(**files), ClassEncoder(None), data_settings(folder / "cache"))


@pytest.fixture(scope="module")
def fit(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], FittedExpert]:
    cache = tmp_path_factory.mktemp("cache")
    target = ExpertTarget("class", 3, lambda labels: labels.to_numpy().astype(np.int64))
    return lambda refit: fit_expert(corpus, settings(refit), target, cache)


def test_a_fitted_expert_is_found_in_the_cache(
    fit: Callable[[bool], FittedExpert], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(True)
    monkeypatch.setattr(LinearExpert, "fit", None)
    assert fit(True) == fitted
    assert fitted.facts.keys() == {"ngrams", "C", "refit", "held_out", "seconds"}
    with pytest.raises(TypeError):
        fit(False)


def test_validation_is_judged_by_the_expert_of_the_training_split_alone(
    corpus: Corpus, fit: Callable[[bool], FittedExpert]
) -> None:
    plain, refitted = fit(False), fit(True)
    assert plain.scores.keys() == refitted.scores.keys() == {"validation", "test"}
    for split, count, same in (("validation", 20, True), ("test", 17, False)):
        first, second = (np.load(fitted.scores[split]) for fitted in (plain, refitted))
        assert first.shape == second.shape == (count, 3)
        assert np.array_equal(first, second) == same
    for fitted in (plain, refitted):
        (texts, pairs) = next(corpus.splits["test"].texts())
        expected = LinearExpert.from_state_dict(torch.load(fitted.tensors)).scores(texts, pairs)
        np.testing.assert_array_equal(np.load(fitted.scores["test"]), expected)
    assert refitted.facts["C"] == plain.facts["C"]
    assert refitted.facts["ngrams"] > plain.facts["ngrams"]
