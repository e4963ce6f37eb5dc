"""The linear expert: scores of classes or labels, or a number, from the n-grams of a text.

Axis legend: N rows, F known n-grams, C outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import embedding_bag

from lx.errors import LxError
from lx.linear.features import Vocabulary, learn_vocabulary
from lx.linear.settings import ExpertSettings
from lx.linear.solver import CrossValidation, fit_calibrated, num_fits
from lx.linear.targets import KINDS, Kind, target_of
from lx.linear.tensors import check_tensors
from lx.system.progress import track

MAX_WEIGHTS = 100_000_000  # of all n-grams and classes together
MAX_CHARACTERS = 30_000_000  # of the texts that an expert is fitted on


class LinearExpert:
    """A linear map of n-grams to calibrated scores: tensors and numpy arrays alone."""

    def __init__(
        self,
        kind: Kind,
        vocabulary: Vocabulary,
        weights: Tensor,
        bias: Tensor,
        texts_per_row: int,
        validated: CrossValidation | None = None,
    ) -> None:
        """Join the parts.

        Args:
            kind: What is predicted; see :meth:`scores`.
            vocabulary: F n-grams.
            weights: [F, C], or [F, 1] for the logit of the second of two classes, that of the first being 0. For pairs
                there is one more row for each overlap.
            bias: [C] or [1].
            texts_per_row: 2 for pairs, else 1.
            validated: The cross-validation of the fit; None for an expert that was read from tensors.
        """
        self.kind, self.texts_per_row = kind, texts_per_row
        self.vocabulary, self.weights, self.bias = vocabulary, weights, bias
        self.validated = validated

    @property
    def num_ngrams(self) -> int:
        """F."""
        return len(self.vocabulary.hashes)

    @property
    def num_outputs(self) -> int:
        """C."""
        return 2 if self._has_two_classes else len(self.bias)

    @property
    def _has_two_classes(self) -> bool:
        return self.kind == "class" and len(self.bias) == 1

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        labels: NDArray[Any],
        kind: Kind,
        num_outputs: int,
        settings: ExpertSettings,
    ) -> LinearExpert:
        """Fit an expert on the rows of a training split; takes scikit-learn.

        Args:
            texts: [N], of pairs the first texts.
            pairs: [N], the second texts of pairs; None: single texts.
            labels: Class ids [N]; for label sets, whether a row has a label [N, C]; or numbers in standard units [N].
            kind: Which of these the labels are.
            num_outputs: C; 1 of numbers.
            settings: Of the n-grams and the fit.
        """
        rows = _affordable_rows(texts, pairs)
        columns = [[column[row] for row in rows] for column in (texts, pairs) if column is not None]
        labels = np.asarray(labels)[rows]
        words, characters = settings.orders(texts)
        most = min(settings.max_ngrams, MAX_WEIGHTS // num_outputs)
        vocabulary = learn_vocabulary(columns, words, characters, settings.min_count, most)
        features, target = vocabulary.matrix(columns), target_of(kind, num_outputs)
        candidates = settings.candidates(kind)
        with track("fitting the linear expert", num_fits(candidates), "fits") as advance:
            fitted, validated = fit_calibrated(features, labels, target, candidates, advance)
        held_out = _normalized(torch.from_numpy(validated.scores), kind).numpy()
        weights, bias = torch.from_numpy(fitted.weights), torch.from_numpy(fitted.bias)
        if kind == "class" and num_outputs == 2:
            weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
        validated = replace(validated, rows=rows[validated.rows], scores=held_out)
        return cls(kind, vocabulary, weights.float().contiguous(), bias.float(), len(columns), validated)

    def scores(self, texts: Sequence[str], pairs: Sequence[str] | None) -> NDArray[np.float32]:
        """Return log-probabilities of classes, log-odds of labels, or numbers in standard units [N, C].

        Raises:
            LxError: Pairs where the expert was fitted on single texts, or the other way round.
        """
        columns = [column for column in (texts, pairs) if column is not None]
        if len(columns) != self.texts_per_row:
            raise LxError(f"the linear expert takes {self.texts_per_row} texts a row, not {len(columns)}")
        chunks = [self.bias.new_empty(0, len(self.bias))]
        for entries in self.vocabulary.entries(columns):
            indices, offsets, values = map(torch.from_numpy, (entries.columns, entries.starts, entries.values))
            sums = embedding_bag(indices, self.weights, offsets, mode="sum", per_sample_weights=values)
            chunks.append(sums + self.bias)
        joined = torch.cat(chunks)
        if self._has_two_classes:
            joined = torch.cat([torch.zeros_like(joined), joined], 1)
        return _normalized(joined, self.kind).numpy()

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything as tensors, for `from_state_dict`."""
        return {
            "kind": torch.tensor(KINDS.index(self.kind)),
            "orders": torch.tensor([self.vocabulary.words, self.vocabulary.characters]),
            "texts_per_row": torch.tensor(self.texts_per_row),
            "hashes": torch.from_numpy(self.vocabulary.hashes.view(np.int64)),
            "idf": torch.from_numpy(self.vocabulary.idf),
            "weights": self.weights,
            "bias": self.bias,
        }

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor]) -> LinearExpert:
        """Rebuild an expert from the tensors of `state_dict`, perhaps of a stranger.

        Raises:
            LxError: The tensors are not those of an expert.
        """
        tensors = {"kind": torch.tensor(KINDS.index("class")), **tensors}  # older experts lack it
        check_tensors(tensors)
        words, characters = tensors["orders"].tolist()
        hashes = tensors["hashes"].numpy().view(np.uint64)
        vocabulary = Vocabulary(tuple(words), tuple(characters), hashes, tensors["idf"].numpy())
        kind, texts_per_row = KINDS[int(tensors["kind"])], int(tensors["texts_per_row"])
        return cls(kind, vocabulary, tensors["weights"], tensors["bias"], texts_per_row)


def _normalized(scores: Tensor, kind: Kind) -> Tensor:
    """Return log-probabilities of classes, and other scores as they are; float32."""
    return (scores.log_softmax(1) if kind == "class" else scores).float()


def _affordable_rows(texts: Sequence[str], pairs: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the rows to fit on, ascending: all, or a random part whose texts have about `MAX_CHARACTERS` together."""
    num_characters = sum(map(len, texts)) + sum(map(len, pairs or ()))
    shuffled = np.random.default_rng(0).permutation(len(texts))
    return np.sort(shuffled[: max(1, len(texts) * MAX_CHARACTERS // max(MAX_CHARACTERS, num_characters))])
