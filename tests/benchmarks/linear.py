"""TF-IDF and a linear model on the splits that lx uses: the model to beat.

    python tests/benchmarks/linear.py data=docstrings
    python tests/benchmarks/linear.py data=files data.train=train.csv data.test=test.csv
    python tests/benchmarks/linear.py task=regression data=files data.train=train.csv data.test=test.csv
    python tests/benchmarks/linear.py task=multilabel data=files data.train=a.jsonl data.test=b.jsonl data.label=labels

For classes two models: logistic regression on words and bigrams, and a linear SVM on n-grams of words and of
characters whose C is chosen by cross-validation. For numbers ridge regression, for sets of labels logistic regression
of each label against the rest. Trains on the training and the validation rows together, since it has nothing to
validate; only the thresholds of labels are chosen on the validation rows, by a model of the training rows. Needs
lx[bench].
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.stats import pearsonr, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, mean_squared_error
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_union
from sklearn.svm import LinearSVC

import lx
from lx.data.corpus.storage import SplitView
from lx.data.sources.build import build_source
from lx.distributed.rank_info import RankInfo
from lx.system.hardware import resolve
from lx.tasks.multilabel_labels import multi_hot
from lx.training.builders import build_data

Scores = dict[str, float]


class Features:
    """TF-IDF of words and bigrams, and of n-grams of characters where asked for, learned from the training splits.

    Of a pair of texts, for classes and sets of labels, the texts are joined; for numbers, which mostly say how alike
    they are, the features are the difference and the product of those of each text.
    """

    def __init__(self, splits: Sequence[SplitView], alike: bool = False, characters: bool = False) -> None:
        self.alike = alike
        texts = [text for split in splits for text in self._texts(split)]
        chinese = sum("\u4e00" <= character <= "\u9fff" for text in texts[:100] for character in text) > 100
        if chinese:  # which has no spaces to split at
            self.vectorizer = _tf_idf(analyzer="char", ngram_range=(1, 4 if characters else 2))
        else:
            words = _tf_idf(ngram_range=(1, 2))
            pieces = _tf_idf(analyzer="char", ngram_range=(2, 5), lowercase=False)
            self.vectorizer = make_union(words, pieces) if characters else words
        self.vectorizer.fit(texts)

    def _texts(self, split: SplitView) -> list[str]:
        """Return a text a row, or both texts of each pair, the first ones first."""
        firsts, seconds = _columns(split)
        if not split.has_pairs or self.alike:
            return firsts + seconds
        return list(map(" ".join, zip(firsts, seconds, strict=True)))

    def __call__(self, *splits: SplitView) -> sparse.csr_matrix:
        """Return the features of all rows."""
        rows = []
        for split in splits:
            features = self.vectorizer.transform(self._texts(split))
            if split.has_pairs and self.alike:
                first, second = features[: len(split)], features[len(split) :]
                features = sparse.hstack([abs(first - second), first.multiply(second)])
            rows.append(features)
        return sparse.vstack(rows).tocsr()


def _tf_idf(**n_grams: Any) -> TfidfVectorizer:
    return TfidfVectorizer(sublinear_tf=True, min_df=2, **n_grams)


def _columns(split: SplitView) -> tuple[list[str], list[str]]:
    firsts: list[str] = []
    seconds: list[str] = []
    for texts, pairs in split.texts():
        firsts += texts
        seconds += pairs or []
    return firsts, seconds


def _labels(*splits: SplitView) -> NDArray[Any]:
    return np.concatenate([split.labels.to_numpy() for split in splits])


def classification(splits: dict[str, SplitView]) -> Scores:
    """Accuracy and macro F1 of logistic regression, and of the tuned SVM."""
    train = (splits["train"], splits["validation"])
    labels, expected = _labels(*train), _labels(splits["test"])
    words, all_n_grams = Features(train), Features(train, characters=True)
    folds = StratifiedKFold(3, shuffle=True, random_state=0)  # the rows may be sorted by class
    svm = GridSearchCV(LinearSVC(), {"C": [0.1, 0.3, 1.0]}, cv=folds)
    scores: Scores = {}
    for name, features, model in (("", words, LogisticRegression(C=10, max_iter=1000)), ("SVM ", all_n_grams, svm)):
        predicted = model.fit(features(*train), labels).predict(features(splits["test"]))
        scores[f"{name}accuracy"] = accuracy_score(expected, predicted)
        scores[f"{name}macro F1"] = f1_score(expected, predicted, average="macro")
    return {**scores, "SVM C": svm.best_params_["C"]}


def regression(splits: dict[str, SplitView]) -> Scores:
    """Error and correlations of ridge regression."""
    train = (splits["train"], splits["validation"])
    features = Features(train, alike=True)
    predicted = Ridge(alpha=1.0).fit(features(*train), _labels(*train)).predict(features(splits["test"]))
    labels = _labels(splits["test"])
    return {
        "mse": mean_squared_error(labels, predicted),
        "pearson": pearsonr(labels, predicted).statistic,
        "spearman": spearmanr(labels, predicted).statistic,
    }


def multilabel(splits: dict[str, SplitView], num_labels: int) -> Scores:
    """Scores of logistic regressions at the one threshold with the best micro F1 on validation, and at one a label."""

    def fit(*train: SplitView) -> tuple[Features, OneVsRestClassifier]:
        features = Features(train)
        model = OneVsRestClassifier(LogisticRegression(C=10, solver="liblinear", max_iter=1000))
        return features, model.fit(features(*train), np.concatenate([truth(split) for split in train]))

    def truth(split: SplitView) -> NDArray[np.float32]:
        return multi_hot(split.labels, num_labels)

    features, model = fit(splits["train"])
    validation = model.predict_proba(features(splits["validation"]))
    labels = truth(splits["validation"])
    grid = np.linspace(0.01, 0.99, 99)
    shared = max(grid, key=lambda t: f1_score(labels, validation >= t, average="micro"))
    each = [max(grid, key=lambda t: f1_score(y, p >= t)) for y, p in zip(labels.T, validation.T, strict=True)]
    features, model = fit(splits["train"], splits["validation"])
    probabilities, labels = model.predict_proba(features(splits["test"])), truth(splits["test"])
    scores = {"mean average precision": average_precision_score(labels, probabilities)}
    for name, thresholds in {"shared": shared, "per label": each}.items():
        predicted = probabilities >= thresholds
        scores[f"micro F1 ({name})"] = f1_score(labels, predicted, average="micro")
        scores[f"macro F1 ({name})"] = f1_score(labels, predicted, average="macro")
        scores[f"subset accuracy ({name})"] = accuracy_score(labels, predicted)
    return scores


def main(overrides: list[str]) -> None:
    """Fit, score and print one line."""
    cfg = lx.compose(["recipe=plain", *overrides])
    data = build_data(cfg, resolve("cpu"), RankInfo(), build_source(cfg.data))
    data.prepare_data()
    splits, task = data.corpus.splits, cfg.task._target_.rpartition(".")[2]
    started = time.perf_counter()
    if task == "Regression":
        scores = regression(splits)
    elif task == "Multilabel":
        scores = multilabel(splits, len(data.corpus.label_set["class_names"]))
    else:
        scores = classification(splits)
    print("TF-IDF and a linear model:", *(f"{name} {value:.4f} " for name, value in scores.items()), end="")
    print(f" ({len(splits['train']) + len(splits['validation']):,} texts, {time.perf_counter() - started:.1f} s)")


if __name__ == "__main__":
    main(sys.argv[1:])
