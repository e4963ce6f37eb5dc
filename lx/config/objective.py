"""The objective: what the best checkpoint, early stopping and sweeps look at, and in which direction it is better."""

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
    """Replace ``objective.mode=auto`` by the direction in which the metric is better, where lx knows the metric."""
    from omegaconf import OmegaConf

    name = str(OmegaConf.select(cfg, "objective.metric")).removeprefix("val/")
    if OmegaConf.select(cfg, "objective.mode") == "auto" and name in (*SMALLER_IS_BETTER, *LARGER_IS_BETTER):
        cfg.objective.mode = "min" if name in SMALLER_IS_BETTER else "max"


def check_objective(objective: DictConfig) -> None:
    """Check that the mode is the one in which the metric is better.

    Raises:
        LxError: it is the other one, or it is not known.
    """
    metric, mode = objective.metric, objective.mode
    known = [f"val/{name}" for name in dict.fromkeys((*LARGER_IS_BETTER, *SMALLER_IS_BETTER))]
    if mode == "auto":
        raise LxError(
            f"objective.metric={metric} is none that lx knows{did_you_mean(metric, known)}; there are: "
            f"{', '.join(known)}. For a metric of your own task give objective.mode=max or objective.mode=min, too"
        )
    best = "min" if metric.removeprefix("val/") in SMALLER_IS_BETTER else "max"
    if metric in known and mode != best:
        raise LxError(
            f"objective.mode={mode} would keep the worst by objective.metric={metric}, of which "
            f"{'less' if best == 'min' else 'more'} is better: leave objective.mode out"
        )
