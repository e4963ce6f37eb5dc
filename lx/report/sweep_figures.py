"""Figures of a sweep, from plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from lx.report.colours import MUTED, PAPER, SERIES
from lx.report.drawing import HEIGHT, Figure, canvas, label, legend, text_inches

_MOST_TICKS = 8
_MOST_TRIALS = 20  # whose mean over seeds is drawn
_BEST_SHARE = 0.1


def history_figure(numbers: Sequence[int], values: Sequence[float], metric: str, mode: str) -> Figure:
    """Draw the objective of each finished trial by its number, and the best so far."""
    order = np.argsort(numbers)
    trials, objective = np.asarray(numbers)[order], np.asarray(values, float)[order]
    best = (np.maximum if mode == "max" else np.minimum).accumulate(objective)
    with canvas() as (drawing, axes):
        axes.scatter(trials, objective, s=10, color=SERIES[0], alpha=0.45, linewidths=0, label="trial")
        axes.step(trials, best, where="post", color=SERIES[1], label="best so far")
        axes.set(xlabel="trial", title=label(metric, 40))
        legend(drawing, axes)
    where = int(trials[int(np.argmax(objective == best[-1]))])
    text = f"{metric} of {len(trials):,} trials in their order; the best, {best[-1]:.4g}, is trial {where}."
    return Figure("history", "History of the best", text, drawing)


def seeds_figure(rows: Sequence[tuple[str, float, float | None, int]], metric: str) -> Figure:
    """Draw mean and standard deviation over seeds of the best trials.

    Args:
        rows: name, mean, deviation and number of seeds of each trial, the best first.
        metric: the objective's name.
    """
    shown = rows[:_MOST_TRIALS]
    with _named_rows([label(name, 40) for name, *_ in shown]) as (drawing, axes):
        deviations = [deviation or 0.0 for _, _, deviation, _ in shown]
        means = [mean for _, mean, *_ in shown]
        axes.errorbar(means, range(len(shown)), xerr=deviations, fmt="o", capsize=3, color=SERIES[0])
        axes.set_title(label(metric, 40))
        axes.set_xlabel("mean and standard deviation over seeds")
    text = "; ".join(f"{name}: {mean:.4g} ± {deviation or 0:.2g} of {n}" for name, mean, deviation, n in shown[:5])
    return Figure("seeds", "Mean and deviation over seeds", f"The best trials: {text}.", drawing)


def importance_figure(importances: Mapping[str, float], how: str) -> Figure:
    """Draw which settings the objective depends on, the most important first."""
    with _named_rows([label(name, 34) for name in importances]) as (drawing, axes):
        axes.barh(range(len(importances)), list(importances.values()), color=SERIES[0], height=0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of importance")
        axes.set_title(how)
    text = "; ".join(f"{name} {value:.0%}" for name, value in importances.items())
    return Figure("importance", "Importance of the settings", f"{how}: {text}.", drawing)


def expected_best(values: NDArray[np.float64], mode: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the expected best of n random trials and its standard deviation, for n from 1 to N; both [N].

    The best of n trials, drawn with replacement from the N measured ones, is at most the i-th smallest with probability
    ``(i / N) ** n`` (Dodge et al. 2019, "Show Your Work", equation 4).

    Args:
        values: [N] of the objective.
        mode: ``max`` or ``min``.
    """
    sign = 1.0 if mode == "max" else -1.0
    ordered = np.sort(sign * values)
    number = len(ordered)
    shares = np.arange(number + 1) / number
    means, deviations = np.zeros(number), np.zeros(number)
    for n in range(1, number + 1):
        weights = np.diff(shares**n)
        means[n - 1] = weights @ ordered
        deviations[n - 1] = np.sqrt(max(weights @ (ordered - means[n - 1]) ** 2, 0.0))
    return sign * means, deviations


def expected_best_figure(values: Sequence[float], metric: str, mode: str) -> Figure:
    """Draw the expected best validation score against the number of trials."""
    means, deviations = expected_best(np.asarray(values, float), mode)
    trials = np.arange(1, len(means) + 1)
    with canvas() as (drawing, axes):
        axes.plot(trials, means, color=SERIES[0])
        axes.fill_between(trials, means - deviations, means + deviations, color=SERIES[0], alpha=0.2, linewidth=0)
        if len(trials) > 50:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(lambda trial, _: f"{trial:,.0f}")  # matplotlib's own is mathematical text
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="trials", title=label(f"expected best {metric}", 44))
    text = f"After one trial {means[0]:.4g}, after {len(means):,} trials {means[-1]:.4g}, with one standard deviation."
    return Figure("expected-best", "Expected best score against trials", text, drawing)


def validations_figure(runs: Sequence[tuple[Sequence[float], Sequence[float], bool]], metric: str) -> Figure:
    """Draw the objective of each validation.

    Args:
        runs: steps, values, and whether the run was pruned.
        metric: the objective's name.
    """
    pruned = [np.column_stack([steps, values]) for steps, values, is_pruned in runs if is_pruned]
    whole = [np.column_stack([steps, values]) for steps, values, is_pruned in runs if not is_pruned]
    with canvas(height=HEIGHT + 0.3) as (drawing, axes):
        for lines, colour, style, name in (
            (whole, SERIES[0], "-", f"{len(whole):,} went on"),
            (pruned, SERIES[1], "--", f"{len(pruned):,} pruned"),
        ):
            if lines:
                alpha = max(0.08, min(0.8, 8 / len(lines)))
                axes.add_collection(LineCollection(lines, colors=colour, alpha=alpha, linestyles=style, linewidths=1))
                ends = np.array([line[-1] for line in lines])
                axes.scatter(ends[:, 0], ends[:, 1], s=8, color=colour, alpha=0.6, linewidths=0, label=name)
        axes.autoscale_view()
        axes.set(xlabel="step", title=label(metric, 40))
        legend(drawing, axes)
    text = f"{metric} at each validation: {len(whole):,} runs went on to their end, {len(pruned):,} were pruned."
    return Figure("validations", "Intermediate values", text, drawing)


def parallel_figure(axes_values: Mapping[str, Sequence[str]], objective: Sequence[float], mode: str) -> Figure:
    """Draw each trial as a line through its settings, the best tenth in colour.

    Args:
        axes_values: of each setting, the value of every trial, as text.
        objective: of every trial; drawn on the last axis.
        mode: ``max`` or ``min``.
    """
    values = np.asarray(objective, float)
    scaled = {key: _scale(texts) for key, texts in axes_values.items()}
    places = np.column_stack([*(place for place, _ in scaled.values()), _unit(values)])
    order = np.argsort(values if mode == "max" else -values)
    num_best = max(1, round(_BEST_SHARE * len(values)))
    lines = [np.column_stack([np.arange(places.shape[1]), places[index]]) for index in order]
    with canvas(max(4.3, 1.45 * places.shape[1] + 0.6), 3.6) as (drawing, axes):
        alpha = max(0.08, min(0.5, 60 / len(lines)))
        axes.add_collection(LineCollection(lines[:-num_best], colors=MUTED, alpha=alpha, linewidths=0.7))
        axes.add_collection(LineCollection(lines[-num_best:], colors=SERIES[1], alpha=0.75, linewidths=1.1))
        ticks = [*(tick for _, tick in scaled.values()), [(0.0, f"{values.min():.4g}"), (1.0, f"{values.max():.4g}")]]
        for index, marks in enumerate(ticks):
            axes.axvline(index, color=MUTED, linewidth=0.8)
            for height, text in marks:
                box = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.8, "pad": 1}
                axes.text(index + 0.03, height, label(text, 14), fontsize=7, va="center", bbox=box, zorder=5)
        axes.set_xlim(-0.1, places.shape[1] - 0.5)
        axes.set_ylim(-0.06, 1.06)
        axes.set_xticks(range(places.shape[1]), [*(label(key, 18) for key in scaled), "objective"], fontsize=8)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set_title("each line a trial, the best tenth in colour")
    text = (
        f"{len(values):,} trials as lines through {', '.join(scaled)} and the objective; the best {num_best} stand out."
    )
    return Figure("parallel", "Parallel coordinates", text, drawing)


@contextmanager
def _named_rows(names: Sequence[str]) -> Iterator[tuple[Drawing, Axes]]:
    """Give a drawing and its axes, with a row for each name, the first one at the top."""
    margin = text_inches(names, 8) + 0.3
    width, height = margin + 3.2, 0.9 + 0.25 * len(names)
    with canvas(width, height) as (drawing, axes):
        drawing.set_layout_engine("none")  # it cannot measure letters that its font lacks
        axes.set_position((margin / width, 0.5 / height, 3.0 / width, (height - 0.85) / height))
        axes.set_yticks(range(len(names)), names, fontsize=8)
        yield drawing, axes
        axes.set_ylim(len(names) - 0.5, -0.5)


def numbers(texts: Sequence[str]) -> NDArray[np.float64] | None:
    """Return texts as numbers; None if one of them is no finite number."""
    try:
        parsed = np.array([float(text) for text in texts])
    except ValueError:
        return None
    return parsed if np.isfinite(parsed).all() else None


def is_logarithmic(values: NDArray[np.float64]) -> bool:
    """Return whether numbers are best shown on a logarithmic scale: positive, far apart, and most of them small."""
    return bool(values.min() > 0 and values.max() > 30 * values.min() and np.median(values) < values.max() / 4)


def _scale(texts: Sequence[str]) -> tuple[NDArray[np.float64], list[tuple[float, str]]]:
    """Place values on an axis from 0 to 1; return the height of each, and height and text of the axis's marks."""
    distinct = list(dict.fromkeys(texts))
    parsed = numbers(texts)
    if parsed is not None and len(distinct) > _MOST_TICKS:
        scaled = np.log(parsed) if is_logarithmic(parsed) else parsed
        return _unit(scaled), [(0.0, f"{parsed.min():.3g}"), (1.0, f"{parsed.max():.3g}")]
    ordered = sorted(distinct, key=float) if parsed is not None else sorted(distinct)
    height = {text: index / max(len(ordered) - 1, 1) for index, text in enumerate(ordered)}
    step = -(-len(ordered) // 20)
    marks = {text: f"{float(text):.4g}" if parsed is not None and len(text) > 8 else text for text in ordered[::step]}
    return np.array([height[text] for text in texts]), [(height[text], mark) for text, mark in marks.items()]


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    span = values.max() - values.min()
    return (values - values.min()) / span if span else np.full(len(values), 0.5)
