"""Learning curves: each metric against the optimizer step, of one run or of several together."""

from __future__ import annotations

import re
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lx.report.drawing import Figure, canvas, label, legend, line_style
from lx.report.history import Series

_FIRST = ("loss", "accuracy", "f1_micro", "f1_macro", "pearson", "mae")
_LAST = ("lr", "grad_norm", "tokens_per_second")
_TITLES = {
    "lr": "learning rate",
    "grad_norm": "gradient norm, before clipping",
    "tokens_per_second": "real tokens a second",
    "f1_macro": "macro F1",
    "f1_micro": "micro F1",
    "mae": "mean absolute error",
    "r2": "R²",
}
_MOST_FIGURES = 16
_FEW_POINTS = 30

History = Mapping[str, Series]


def curves(histories: Mapping[str, History]) -> list[Figure]:
    """Draw one figure a metric, training and validation together.

    A metric that nowhere has two values gets none, nor does the linear expert, which is fitted once.

    Args:
        histories: what each run logged, by the run's name.
    """
    metrics: dict[str, None] = {}
    for history in histories.values():
        drawn = [name for name, series in history.items() if len(series.steps) > 1]
        metrics |= dict.fromkeys(name.partition("/")[2] or name for name in drawn)
    others = (*_FIRST, *_LAST, "step", "epoch")
    middle = sorted(name for name in metrics if name not in others and not name.startswith("expert_"))
    ordered = [name for name in (*_FIRST, *middle, *_LAST) if name in metrics]
    return [_curve(name, histories) for name in ordered[:_MOST_FIGURES]]


def _curve(metric: str, histories: Mapping[str, History]) -> Figure:
    title = label(_TITLES.get(metric, metric.replace("_", " ")), 40)
    several = len(histories) > 1
    descriptions = []
    with canvas() as (drawing, axes):
        for index, (run, history) in enumerate(histories.items()):
            columns = {"train": f"train/{metric}", "validation": f"val/{metric}", "": metric}
            drawn = {kind: history[column] for kind, column in columns.items() if column in history}
            for kind, series in drawn.items():
                name = " ".join(filter(None, (label(run, 22) if several else "", kind)))
                _draw(axes, series.thinned(), kind, index if several else int(kind == "validation"), name)
                ends = f"from {series.values[0]:.4g} to {series.values[-1]:.4g}"
                steps = f"between steps {series.steps[0]:,.0f} and {series.steps[-1]:,.0f}"
                descriptions.append(f"{name or metric} {ends}, {steps}")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        last = max((series.steps[-1] for history in histories.values() for series in history.values()), default=1)
        axes.set_xlim(0, 1.02 * float(last))
        if metric in ("tokens_per_second", "grad_norm", "lr"):
            axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        legend(drawing, axes, columns=1 if several else 2)
    name = re.sub(r"\W+", "-", metric, flags=re.ASCII).strip("-") or "metric"
    return Figure(f"curve-{name}", title, f"{title} against step: {'; '.join(descriptions[:12])}.", drawing)


def _draw(axes: Axes, series: Series, kind: str, index: int, name: str) -> None:
    style = line_style(index)
    if kind == "validation":
        marker = "o" if len(series.steps) <= _FEW_POINTS else ""
        axes.plot(series.steps, series.values, marker=marker, markersize=4, label=name, **style)
    else:
        marker = "." if len(series.steps) == 1 else ""
        faint = 0.55 if kind == "train" else 1.0
        axes.plot(series.steps, series.values, marker=marker, alpha=faint, linewidth=1.2, label=name, **style)


def _short(value: float) -> str:
    """A number of an axis: ``0.05``, ``2e-04``, ``12k``."""
    if abs(value) >= 10_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:.0e}" if 0 < abs(value) < 0.001 else f"{value:.5g}"
