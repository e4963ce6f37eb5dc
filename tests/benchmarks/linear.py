"""TF-IDF with bigrams and logistic regression on the splits that lx uses: the model to beat.

    python tests/benchmarks/linear.py data=docstrings
    python tests/benchmarks/linear.py data=files data.train=train.csv data.test=test.csv

Trains on the training and the validation rows together, since it has nothing to validate. Needs lx[bench].
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score

import lx
from lx.data.corpus.corpus import Split
from lx.distributed.rank_info import RankInfo
from lx.training.builders import build_data


def texts_of(split: Split) -> Iterator[str]:
    """Every text of a split; of a pair, both texts in one."""
    for texts, pairs in split.texts():
        yield from texts if pairs is None else map(" ".join, zip(texts, pairs, strict=True))


def main(overrides: list[str]) -> None:
    """Fit, score and print one line."""
    data = build_data(lx.compose(overrides), RankInfo())
    data.prepare_data()
    splits = data.corpus.splits
    train = [*texts_of(splits["train"]), *texts_of(splits["validation"])]
    labels = [*splits["train"].labels, *splits["validation"].labels]
    chinese = sum("\u4e00" <= character <= "\u9fff" for text in train[:100] for character in text) > 100
    started = time.perf_counter()
    by_words = {"ngram_range": (1, 2)}
    by_characters = {"analyzer": "char", "ngram_range": (1, 2)}  # Chinese has no spaces to split at
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, **(by_characters if chinese else by_words))
    model = LogisticRegression(C=10, max_iter=1000).fit(vectorizer.fit_transform(train), labels)
    predicted = model.predict(vectorizer.transform(texts_of(splits["test"])))
    accuracy = accuracy_score(splits["test"].labels, predicted)
    macro = f1_score(splits["test"].labels, predicted, average="macro")
    print(f"TF-IDF + logistic regression: accuracy {accuracy:.4f}  macro F1 {macro:.4f}  ", end="")
    print(f"({len(train):,} texts, {time.perf_counter() - started:.1f} s)")


if __name__ == "__main__":
    main(sys.argv[1:])
