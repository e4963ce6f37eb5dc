"""The weight of each class in the loss, from the setting ``task.class_weights``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lx.errors import LxError, did_you_mean, shorten

ClassWeights = str | Mapping[Any, float] | Sequence[float]


def one_weight_each(setting: ClassWeights, class_names: Sequence[str], class_counts: Sequence[int]) -> list[float]:
    """Return one weight for each class, in label order.

    Raises:
        LxError: The weights name an unknown class, are not one for each class, or are negative or infinite.
    """
    if isinstance(setting, str):
        if setting != "balanced":
            raise LxError(
                f"task.class_weights={setting!r} is none of: null, balanced, a mapping from class names to "
                f"weights, a list of weights{did_you_mean(setting, ['balanced'])}"
            )
        weights = _balanced(class_counts)
    elif isinstance(setting, Mapping):
        weights = _named(setting, class_names)
    else:
        weights = list(setting)
        if len(weights) != len(class_names):
            raise LxError(
                f"task.class_weights lists {len(weights)} weights, but there are {len(class_names)} classes: "
                f"{shorten(class_names)}"
            )
    for name, weight in zip(class_names, weights, strict=True):
        if not isinstance(weight, int | float) or not math.isfinite(weight) or weight < 0:
            raise LxError(f"task.class_weights: the weight of class {name!r} must be a number from 0, not {weight!r}")
    if not any(weight and count for weight, count in zip(weights, class_counts, strict=True)):
        raise LxError("task.class_weights gives no class that has training rows a weight above 0: nothing to learn")
    return weights


def _balanced(class_counts: Sequence[int]) -> list[float]:
    occurring = sum(count > 0 for count in class_counts)
    return [sum(class_counts) / (occurring * count) if count else 1.0 for count in class_counts]


def _named(setting: Mapping[Any, float], class_names: Sequence[str]) -> list[float]:
    weights = {str(name): weight for name, weight in setting.items()}  # YAML reads the name 3 as a number
    for name in weights:
        if name not in class_names:
            raise LxError(
                f"task.class_weights names {name!r}, which is no class of this data"
                f"{did_you_mean(name, class_names)}; there are: {shorten(class_names)}"
            )
    return [weights.get(name, 1.0) for name in class_names]
