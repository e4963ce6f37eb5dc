"""The trials that a space stands for: all combinations of its values, a list in a file, and those to check first."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lx.errors import LxError, did_you_mean
from lx.sweep.space import Axis, Choices, Params, Space, format_number, format_value


def grid(space: Space, exclude: Sequence[Mapping[str, Any]], zipped: Sequence[Sequence[str]]) -> list[Params]:
    """Return every combination of the axes' values; the first axis varies slowest.

    Args:
        space: one without intervals.
        exclude: rules: a combination is left out if it has a rule's value, or one of its values, for every key of it.
        zipped: groups of keys whose values are paired by their position, instead of combined each with each.

    Raises:
        LxError: an interval among the axes, a key that is no axis, or zipped axes of different lengths.
    """
    axes = {axis.key: axis.values for axis in space.listed_axes()}
    for key in itertools.chain(*exclude, *zipped):
        if key not in axes:
            raise LxError(
                f"sweep.exclude and sweep.zip name axes of the sweep, not {key!r}{did_you_mean(key, [*axes])}"
            )
    groups = [*zipped, *([key] for key in axes if not any(key in group for group in zipped))]
    groups.sort(key=lambda group: list(axes).index(group[0]))
    columns = []
    for group in groups:
        lengths = {key: len(axes[key]) for key in group}
        if len(set(lengths.values())) > 1:
            raise LxError(f"sweep.zip: axes that go together have as many values each, not {lengths}")
        columns.append([dict(zip(group, row, strict=True)) for row in zip(*(axes[key] for key in group), strict=True)])
    combinations = [_merged(parts) for parts in itertools.product(*columns)]
    return [params for params in combinations if not any(_matches(params, rule) for rule in exclude)]


def _merged(parts: Sequence[Params]) -> Params:
    return {key: value for part in parts for key, value in part.items()}


def _matches(params: Params, rule: Mapping[str, Any]) -> bool:
    allowed = {key: value if isinstance(value, list) else [value] for key, value in rule.items()}
    return all(params[key] in map(format_value, values) for key, values in allowed.items())


def read_trials(path: Path) -> list[Params]:
    """Read explicit trials from a JSON Lines file with one object of keys and values per line.

    Raises:
        LxError: the file is missing or empty, or a line is no such object.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise LxError(f"sweep.list={path}: {error.strerror}") from error
    trials: list[Params] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise LxError(f"{path}:{number}: not a JSON object: {error}") from error
        if not isinstance(values, dict):
            raise LxError(f'{path}:{number}: a trial is an object such as {{"optimizer.lr": 0.001, "model": "tiny"}}')
        trials.append({key: format_value(value) for key, value in values.items()})
    if not trials:
        raise LxError(f"sweep.list={path} lists no trials")
    return trials


def probes(space: Space, limit: int) -> Iterator[Params]:
    """Yield the combinations to check before the first trial; an interval stands for its two ends.

    All, if there are at most ``limit``; else each value of an axis, with the first values of the other axes.
    """
    values_of = {axis.key: _values_or_ends(axis) for axis in space.axes}
    if math.prod(map(len, values_of.values())) <= limit:
        yield from (dict(zip(values_of, values, strict=True)) for values in itertools.product(*values_of.values()))
        return
    first = {key: values[0] for key, values in values_of.items()}
    for key, values in values_of.items():
        yield from ({**first, key: value} for value in values)


def _values_or_ends(axis: Axis) -> tuple[str, ...]:
    if isinstance(axis, Choices):
        return axis.values
    return format_number(axis.low, axis), format_number(axis.high, axis)
