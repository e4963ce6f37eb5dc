"""Metrics of logits combined with an expert's scores, by weights that may be fitted on the measured examples.

Axis legend: B examples of a batch, N all examples, K score vectors an example (logits, and an expert's), C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Shaped
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from lx.tasks.calibration import sort_examples

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Combine = Callable[[Tensor, Tensor | None], Tensor]
"""Computes final scores [B, C] of logits [B, C] and an expert's scores [B, C], or of logits alone."""


class Pool(Protocol):
    """Fitted weights of logits and an expert's scores; a dataclass of plain numbers."""

    def combine(self, logits: Tensor, expert: Tensor | None) -> Tensor:
        """Compute the final scores."""


Fit = Callable[[NDArray[np.float32], NDArray[Any]], Pool]
"""Fits weights to scores [N, K, C] and labels [N, ...]."""


class PooledMetrics(MetricCollection):
    """Metrics of combined scores and, where there is an expert, of logits and the expert's scores by themselves.

    Args:
        final: Metrics of the combined scores, by name.
        encoder: A metric of the logits, updated where there is an expert.
        expert: A metric of the expert's scores.
        combine: See :data:`Combine`.
    """

    def __init__(self, final: Mapping[str, Metric], encoder: Metric, expert: Metric, combine: Combine) -> None:
        super().__init__({**final, "encoder": encoder, "expert": expert}, compute_groups=False)
        self._final, self._combine = tuple(final), combine

    @override
    def update(  # type: ignore[override]
        self, logits: Float[Tensor, "B C"], labels: Shaped[Tensor, "B ..."], expert: Float[Tensor, "B C"] | None = None
    ) -> None:
        final = self._combine(logits, expert)
        for name in self._final:
            self[name].update(final, labels)
        if expert is not None:
            self["encoder"].update(logits, labels)
            self["expert"].update(expert, labels)

    def compute_updated(self) -> dict[str, Any]:
        """Return the results of the metrics that were updated, by name."""
        return {name: metric.compute() for name, metric in self.items() if metric.update_called}


class ChoosingMetrics(MetricCollection):
    """Metrics with weights fitted on the very examples that are measured: their scores are kept until the end.

    That takes 4 bytes per example, output and score vector. The result is the same however the examples were ordered,
    batched or spread over ranks.

    Args:
        build: Builds the metrics of a rank by itself, from the function that combines logits and expert.
        fit: Fits the weights.
        without_expert: Metrics of logits without an expert, for which no weight is fitted; None: a weight is fitted
            for logits alone, too.
    """

    def __init__(
        self, build: Callable[[Combine], MetricCollection], fit: Fit, without_expert: MetricCollection | None = None
    ) -> None:
        super().__init__({"kept": KeptScores()}, compute_groups=False)
        self._build, self._fit = build, fit
        if without_expert is not None:
            self.add_module("without_expert", without_expert)

    @override
    def update(self, logits: Tensor, labels: Tensor, expert: Tensor | None = None) -> None:  # type: ignore[override]
        if expert is None and "without_expert" in self:
            self["without_expert"].update(logits, labels)
        else:
            self["kept"].update(logits, labels, expert)

    @override
    def compute(self) -> dict[str, Any]:
        """Return what the metrics compute, and the fitted weights, if there are any, as ``pool``."""
        kept = self["kept"]
        if not kept.update_called:
            measured: dict[str, Any] = self["without_expert"].compute()
            return measured
        scores, labels = kept.compute()
        pool = self._fit(scores, labels)
        order = sort_examples(scores, labels)
        logits, *expert = torch.from_numpy(scores[order]).to(kept.device).unbind(dim=1)
        metrics = self._build(pool.combine).to(kept.device)
        metrics.update(logits, torch.from_numpy(labels[order]).to(kept.device), *expert)
        return {**metrics.compute(), "pool": pool}


def choices_of(computed: dict[str, Any]) -> dict[str, float]:
    """Return the weights that :class:`ChoosingMetrics` has fitted, by name; ``{}`` if it has not."""
    pool: DataclassInstance | None = computed.get("pool")
    return {} if pool is None else asdict(pool)


class KeptScores(Metric):
    """All logits, and the scores of an expert if there is one, together with the labels."""

    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for name in ("scores", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, expert: Tensor | None = None) -> None:
        """Keep a batch."""
        vectors = [logits] if expert is None else [logits, expert]
        self.scores.append(torch.stack([vector.detach().float() for vector in vectors], dim=1))
        self.labels.append(labels)

    def compute(self) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Return scores [N, K, C] and labels [N, ...], not as tensors: torchmetrics makes scalars of single values."""
        return dim_zero_cat(self.scores).cpu().numpy(), dim_zero_cat(self.labels).cpu().numpy()
