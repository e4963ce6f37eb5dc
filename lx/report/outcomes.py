"""Figures of what a run says of each row: calibration, errors against length, numbers against predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lx.report.colours import MUTED, SERIES
from lx.report.drawing import Figure, canvas, legend, shaded
from lx.run.predictions import SplitPredictions

_MOST_POINTS = 2000
_LENGTH_BINS = 10
_IN_TEXTS = "{:,.0f}".format


def reliability_figure(bins: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Draw the reliability diagram (Guo et al. 2017): accuracy against confidence.

    Args:
        bins: of each kind of probabilities, ``unscaled`` and ``scaled``, or ``labels`` of label sets: ``count``,
            ``confidence`` and ``accuracy``.
    """
    errors = []
    with canvas(height=3.9) as (drawing, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="perfectly calibrated")
        names = {"unscaled": "before scaling", "scaled": "after scaling", "labels": "all labels"}
        for index, (kind, name) in enumerate(names.items()):
            if kind not in bins:
                continue
            columns = (np.asarray(bins[kind][column], float) for column in ("count", "confidence", "accuracy"))
            count, confidence, accuracy = columns
            total = max(count.sum(), 1.0)
            error = float((count * np.abs(confidence - accuracy)).sum() / total)
            dashes, color = ("--", SERIES[1]) if index == 0 else ("-", SERIES[0])
            filled = count > 0
            axes.plot(confidence[filled], accuracy[filled], dashes, color=color, label=f"{name}: error {error:.3f}")
            sizes = 8 + 150 * np.sqrt(count / total)
            axes.scatter(confidence[filled], accuracy[filled], sizes[filled], color, alpha=0.6)
            errors.append(f"{name} the expected calibration error is {error:.4f}")
        of_labels = "labels" in bins
        confidence_name = "probability of a label" if of_labels else "confidence"
        accuracy_name = "share of texts that have it" if of_labels else "accuracy"
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=confidence_name, ylabel=accuracy_name, title="reliability")
        legend(drawing, axes, columns=1)
    what = f"{accuracy_name} against {confidence_name} of each bin"
    description = f"{what[0].upper()}{what[1:]}: {'; '.join(errors)}. Larger dots hold more."
    return Figure("reliability", "Reliability diagram", description, drawing)


def length_figure(lengths: NDArray[np.int32], max_length: int, num_truncated: int) -> Figure:
    """Draw how many tokens the texts have."""
    with canvas() as (drawing, axes):
        longest = int(lengths.max())
        axes.hist(lengths, bins=min(40, longest), range=(0.5, longest + 0.5), color=SERIES[0])
        title = f"tokens a text; {num_truncated / len(lengths):.1%} truncated at {max_length:,}"
        axes.set(xlabel="tokens", ylabel="texts", title=title)
        axes.yaxis.set_major_formatter(lambda value, _: _IN_TEXTS(value))
    low, middle, high = np.percentile(lengths, (5, 50, 95))
    description = f"Histogram: the median text has {middle:.0f} tokens, nine of ten have {low:.0f} to {high:.0f}."
    return Figure("lengths", "Lengths of the test texts", f"{description} {num_truncated:,} are truncated.", drawing)


def error_figure(lengths: NDArray[np.int32], split: SplitPredictions, metric: str) -> Figure:
    """Draw the main metric, with 95% intervals, for texts of similar length.

    Args:
        lengths: [N] tokens of each text.
        split: what each text adds to the metric, and counts in it.
        metric: its name.
    """
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, _LENGTH_BINS + 1)))
    places = np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, max(len(edges) - 2, 0))
    places = np.unique(places, return_inverse=True)[1]  # of groups with texts
    weight = np.maximum(np.bincount(places, split.weight), 1e-9)
    mean = np.bincount(places, split.metric) / weight
    deviations = split.metric - mean[places] * split.weight
    middle = np.bincount(places, lengths) / np.bincount(places)
    with canvas() as (drawing, axes):
        margin = 1.96 * np.sqrt(np.bincount(places, deviations**2)) / weight
        axes.errorbar(middle, mean, margin, marker="o", markersize=4, capsize=2, color=SERIES[0], ecolor=MUTED)
        axes.set(xlabel="tokens, groups of about equally many texts", title=f"{metric} against length, 95% interval")
    ends = f"{mean[0]:.4g} for the shortest texts, {mean[-1]:.4g} for the longest"
    return Figure("length-error", f"{metric} against text length", f"{metric}: {ends}.", drawing)


def number_figures(labels: NDArray[np.float64], values: NDArray[np.float64]) -> list[Figure]:
    """Draw predicted against true numbers, and the residuals."""
    correlation = float(np.corrcoef(labels, values)[0, 1]) if labels.std() and values.std() else 0.0
    with canvas(height=3.6) as (drawing, axes):
        _draw_cloud(axes, labels, values)
        ends = [min(labels.min(), values.min()), max(labels.max(), values.max())]
        axes.plot(ends, ends, color=MUTED, linewidth=1, linestyle=":")
        axes.set(xlabel="true", ylabel="predicted", title="predicted against true")
    text = f"{len(labels):,} texts; their correlation is {correlation:.3f}. On the dotted line predictions are right."
    against = Figure("predicted-true", "Predicted against true", text, drawing)
    residuals = values - labels
    with canvas() as (drawing, axes):
        axes.hist(residuals, bins=50, color=SERIES[0])
        axes.axvline(0, color=MUTED, linewidth=1, linestyle=":")
        axes.set(xlabel="predicted minus true", ylabel="texts", title="residuals")
    text = f"Histogram: mean {residuals.mean():.4g}, standard deviation {residuals.std():.4g}."
    return [against, Figure("residuals", "Residuals", text, drawing)]


def _draw_cloud(axes: Axes, labels: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Draw points; many as a picture that is darker where there are more."""
    if len(labels) <= _MOST_POINTS:
        axes.scatter(labels, values, s=9, alpha=0.35, color=SERIES[0], linewidths=0)
        return
    counts, across, up = np.histogram2d(labels, values, bins=80)
    opacity = np.where(counts.T > 0, 0.12 + 0.88 * np.sqrt(counts.T / counts.max()), 0)
    extent = (across[0], across[-1], up[0], up[-1])
    axes.imshow(shaded(opacity), extent=extent, origin="lower", aspect="auto", interpolation="nearest")
