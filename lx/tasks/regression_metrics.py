"""Metrics of predicted numbers, computed from all predictions at once; also of what they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from lx.tasks.metrics import MeanLoss
from lx.tasks.pooled_metrics import Combine, PooledMetrics


class NumberMetrics(PooledMetrics):
    """Metrics of predicted numbers.

    Args:
        loss: Of each example.
        scale: See :class:`RegressionScores`.
        sync: Gather the examples of all ranks.
        combine: Predictions [B, 1], from those of the encoder [B, 1] and those of an expert [B, 1] or None.
    """

    def __init__(self, loss: nn.Module, scale: float, sync: bool, combine: Combine) -> None:
        scores, encoder, expert = (RegressionScores(scale, sync) for _ in range(3))
        super().__init__({"loss": MeanLoss(loss, sync), "scores": scores}, encoder, expert, combine)

    @override
    def compute(self) -> dict[str, Any]:
        """Return the loss, what :class:`RegressionScores` does, and with an expert two scores of each part."""
        computed = self.compute_updated()
        scores = computed.pop("scores")
        for part in {"encoder", "expert"} & computed.keys():
            part_scores = computed.pop(part)
            scores |= {f"{part}_{name}": part_scores[name] for name in ("mse", "pearson")}
        return {**scores, **computed}


class RegressionScores(Metric):
    """Mean squared error and its root, mean absolute error, R2, and Pearson's and Spearman's correlation.

    Every prediction is kept with its target until the end, 8 bytes an example, because a rank correlation needs them
    all. They are sorted before anything is added up, so the results are the same to the last bit however the examples
    were ordered, batched or spread over ranks.

    Args:
        scale: what one unit of predictions and targets is worth in the units of the reported errors.
        sync: gather the examples of all ranks.
    """

    full_state_update = False
    examples: list[Tensor] | Tensor

    def __init__(self, scale: float = 1.0, sync: bool = True) -> None:
        super().__init__(sync_on_compute=sync)
        self.scale = scale
        self.add_state("examples", [], dist_reduce_fx="cat")

    def update(self, predictions: Float[Tensor, "B 1"], targets: Float[Tensor, " B"]) -> None:
        """Keep a batch."""
        batch = torch.stack([predictions.detach().squeeze(1).float(), targets.float()], dim=1)
        assert isinstance(self.examples, list)
        self.examples.append(batch)

    def compute(self) -> dict[str, Tensor]:
        """The scores.

        Returns:
            ``mse``, ``rmse``, ``mae``, ``r2``, ``pearson`` and ``spearman``; not a number if there were no examples or
            a prediction is none. A correlation with numbers that are all equal is 0, as is R2 of equal targets.
        """
        predictions, targets = dim_zero_cat(self.examples).cpu().double().numpy().T
        order = np.lexsort((targets, predictions))
        scores = _scores(predictions[order], targets[order], self.scale)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in scores.items()}


def _scores(predictions: NDArray[np.float64], targets: NDArray[np.float64], scale: float) -> dict[str, float]:
    names = ("mse", "rmse", "mae", "r2", "pearson", "spearman")
    if not len(predictions) or not np.isfinite(predictions).all():
        return dict.fromkeys(names, float("nan"))
    errors = predictions - targets
    mse = float((errors**2).mean())
    variance = float(((targets - targets.mean()) ** 2).mean())
    return {
        "mse": mse * scale * scale,  # in this order: the square of a large or small scale alone may be out of range
        "rmse": float(np.sqrt(mse)) * scale,
        "mae": float(np.abs(errors).mean()) * scale,
        "r2": 1 - mse / variance if variance else float(mse == 0),
        "pearson": _correlation(predictions, targets),
        "spearman": _correlation(mid_ranks(predictions), mid_ranks(targets)),
    }


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    product = float((a * b).sum() / (np.sqrt((a**2).sum()) * np.sqrt((b**2).sum())))
    return min(max(product, -1.0), 1.0)


def mid_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
