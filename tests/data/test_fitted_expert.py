from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from lx.data.corpus.corpus import Corpus, load_corpus
from lx.data.expert import FittedExpert, fit_expert, read_expert, read_log_probabilities
from lx.data.sources.files import FileSource
from lx.errors import LxError
from lx.linear.expert import LinearExpert
from lx.linear.settings import ExpertSettings
from lx.tasks.classification import ClassEncoder
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
    return lambda refit: fit_expert(
        corpus, settings(refit), 3, lambda labels: labels.to_numpy().astype(np.int64), cache
    )


def test_a_fitted_expert_is_found_in_the_cache(
    fit: Callable[[bool], FittedExpert], monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = fit(True)
    monkeypatch.setattr(LinearExpert, "fit", None)
    assert fit(True) == fitted
    assert fitted.facts.keys() == {"ngrams", "C", "refit", "seconds"}
    with pytest.raises(TypeError):
        fit(False)


def test_validation_is_judged_by_the_expert_of_the_training_split_alone(
    corpus: Corpus, fit: Callable[[bool], FittedExpert]
) -> None:
    plain, refitted = fit(False), fit(True)
    assert plain.log_probabilities.keys() == refitted.log_probabilities.keys() == {"validation", "test"}
    for split, count, same in (("validation", 20, True), ("test", 17, False)):
        first, second = (
            read_log_probabilities(fitted.log_probabilities[split], count, 3) for fitted in (plain, refitted)
        )
        assert np.array_equal(first, second) == same
    for fitted in (plain, refitted):
        (texts, pairs) = next(corpus.splits["test"].texts())
        expected = read_expert(fitted.tensors).log_probabilities(texts, pairs)
        np.testing.assert_array_equal(np.load(fitted.log_probabilities["test"]), expected)
    assert refitted.facts["C"] == plain.facts["C"]
    assert refitted.facts["ngrams"] > plain.facts["ngrams"]


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 3), np.float32),
        np.zeros((5, 3), np.float64),
        np.full((5, 3), np.nan, np.float32),
        np.full((5, 3), -np.inf, np.float32),
        np.array([[None] * 3] * 5),
    ],
)
def test_log_probabilities_of_a_stranger_are_checked(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(LxError, match=r"x\.npy"):
        read_log_probabilities(tmp_path / "x.npy", 5, 3)
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(LxError, match=r"x\.npy"):
        read_log_probabilities(tmp_path / "x.npy", 5, 3)


@pytest.mark.parametrize("content", [[1, 2], {}, {"weights": torch.ones(2, 2)}, Path("x")])
def test_tensors_of_a_stranger_are_checked(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(LxError, match=r"x\.pt is damaged"):
        read_expert(tmp_path / "x.pt")
