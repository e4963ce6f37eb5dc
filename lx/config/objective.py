"""The objective: the metric of early stopping and sweeps, its direction, and the metric of the best checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lx.errors import LxError, did_you_mean

if TYPE_CHECKING:
    from omegaconf import DictConfig

SMALLER_IS_BETTER = ("loss", "mse", "rmse", "mae", "calibration_error", "calibration_error_unscaled")
LARGER_IS_BETTER = (
    *("accuracy", "f1_macro", "f1_micro", "subset_accuracy", "mean_average_precision", "r2", "pearson", "spearman"),
)
"""The metrics that lx's own tasks measure."""


def follow_metric(cfg: DictConfig) -> None:
    """Replace ``auto`` in ``objective``: the mode by the metric's own, if lx knows the metric, and the checkpoint."""
    from omegaconf import OmegaConf

    metric = str(OmegaConf.select(cfg, "objective.metric"))
    if OmegaConf.select(cfg, "objective.mode") == "auto" and _is_known(metric):
        cfg.objective.mode = _better(metric)
    if OmegaConf.select(cfg, "objective.checkpoint") == "auto":
        cfg.objective.checkpoint = "val/loss" if metric == "val/accuracy" else metric


def checkpoint_metric(objective: DictConfig) -> tuple[str, str]:
    """Return the metric of the best checkpoint and its mode."""
    metric = objective.get("checkpoint", objective.metric)  # older runs have none
    return metric, objective.mode if metric == objective.metric else _better(metric)


def check_objective(objective: DictConfig) -> None:
    """Check that the mode is the metric's own.

    Raises:
        LxError: it is the opposite, or a metric is unknown.
    """
    metric, mode = objective.metric, objective.mode
    known = [f"val/{name}" for name in dict.fromkeys((*LARGER_IS_BETTER, *SMALLER_IS_BETTER))]
    if mode == "auto":
        raise LxError(
            f"objective.metric={metric} is none that lx knows{did_you_mean(metric, known)}; there are: "
            f"{', '.join(known)}. For a metric of your own task give objective.mode=max or objective.mode=min, too"
        )
    best = _better(metric)
    if _is_known(metric) and mode != best:
        raise LxError(
            f"objective.mode={mode} would keep the worst by objective.metric={metric}, of which "
            f"{'less' if best == 'min' else 'more'} is better: leave objective.mode out"
        )
    checkpoint = objective.get("checkpoint", metric)  # older runs have none
    if checkpoint != metric and not _is_known(checkpoint):
        raise LxError(
            f"objective.checkpoint={checkpoint} is none that lx knows{did_you_mean(checkpoint, known)}; there are: "
            f"{', '.join(known)}, and the metric of the objective"
        )


def _is_known(metric: str) -> bool:
    return metric.removeprefix("val/") in (*SMALLER_IS_BETTER, *LARGER_IS_BETTER)


def _better(metric: str) -> str:
    return "min" if metric.removeprefix("val/") in SMALLER_IS_BETTER else "max"
