"""What varies in a sweep: axes, seeds and the overrides that all trials share, read with Hydra's own sweep grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lx.config.grammar import parse
from lx.errors import LxError, first_line

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

Params = dict[str, str]
"""Keys to values, both as they stand in an override: ``{"optimizer.lr": "0.001", "model": "tiny"}``."""


@dataclass(frozen=True)
class Choices:
    """An axis of listed values.

    Attributes:
        key: what is overridden, for example ``model`` or ``+data.extra``.
        values: as they stand in an override.
    """

    key: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Interval:
    """An axis of all numbers between two, both included.

    Attributes:
        key: what is overridden.
        low: the smallest value.
        high: the largest value.
        log: whether to search on a logarithmic scale.
        integer: whether only whole numbers are meant.
    """

    key: str
    low: float
    high: float
    log: bool
    integer: bool


Axis = Choices | Interval


@dataclass(frozen=True)
class Space:
    """The space of a sweep.

    Attributes:
        fixed: overrides that all trials share.
        axes: what varies from trial to trial.
        seeds: the replicates of every trial; never an axis.
    """

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]

    def listed_axes(self) -> tuple[Choices, ...]:
        """The axes of a grid.

        Raises:
            LxError: one is an interval, which has no list of values.
        """
        for axis in self.axes:
            if isinstance(axis, Interval):
                raise LxError(
                    f"{axis.key}: a grid needs a list of values, and an interval has none: give values or range(...), "
                    "or search it with sweep=tpe or sweep=random and sweep.n_trials=N"
                )
        return tuple(axis for axis in self.axes if isinstance(axis, Choices))


def parse_space(hydra: Hydra, overrides: Sequence[str], params: Mapping[str, Any], num_seeds: int | None) -> Space:
    """Read what varies from the command line and from ``sweep.params``; the command line wins.

    Args:
        hydra: an open session, which knows the groups that ``glob`` looks into.
        overrides: of the command line, without those of ``sweep``.
        params: keys to values in Hydra's sweep grammar, from a sweep's file.
        num_seeds: replicates, counted up from the seed that is set; None: the seeds of the command line.

    Raises:
        LxError: an override that cannot be parsed, or seeds that are given twice or are not whole numbers.
    """
    from hydra.errors import HydraException

    parsed = {}
    for text in [*(f"{key}={_grammar(value)}" for key, value in params.items()), *overrides]:
        try:
            (override,) = parse([text], hydra.config_loader)
        except HydraException as error:
            raise LxError(f"{text}: {first_line(error)}") from error
        parsed[override.get_key_element()] = override
    fixed = [str(override.input_line) for override in parsed.values() if not override.is_sweep_override()]
    axes = [_axis(key, override) for key, override in parsed.items() if override.is_sweep_override()]
    seeds = _seeds([axis for axis in axes if axis.key == "seed"], fixed, num_seeds)
    return Space(
        fixed=tuple(text for text in fixed if not text.startswith("seed=")),
        axes=tuple(axis for axis in axes if axis.key != "seed"),
        seeds=seeds,
    )


def _grammar(value: Any) -> str:
    """Write a value of ``sweep.params`` in Hydra's sweep grammar; a YAML list becomes choices."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _axis(key: str, override: Any) -> Axis:
    from hydra.core.override_parser.types import IntervalSweep

    value = override.value()
    if isinstance(value, IntervalSweep):
        assert value.start is not None
        assert value.end is not None
        integer = isinstance(value.start, int) and isinstance(value.end, int)
        if value.end <= value.start or ("log" in value.tags and value.start <= 0):
            raise LxError(f"{override.input_line}: an interval grows, and on a logarithmic scale it begins above 0")
        return Interval(key, value.start, value.end, "log" in value.tags, integer)
    values = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not values:
        raise LxError(f"{override.input_line} lists no values")
    return Choices(key, values)


def _seeds(axes: Sequence[Axis], fixed: Sequence[str], num_seeds: int | None) -> tuple[int, ...]:
    base = next((text.partition("=")[2] for text in reversed(fixed) if text.startswith("seed=")), "0")
    listed = axes[0].values if axes and isinstance(axes[0], Choices) else (base,)
    if axes and num_seeds is not None:
        raise LxError("seed=... lists seeds and sweep.seeds counts them: give one of the two")
    try:
        seeds = tuple(map(int, listed))
    except ValueError as error:
        raise LxError(f"seed={','.join(listed)}: seeds are whole numbers") from error
    return seeds if num_seeds is None else tuple(range(seeds[0], seeds[0] + num_seeds))


def overrides_of(params: Params) -> list[str]:
    """A trial's values as overrides."""
    return [f"{key}={value}" for key, value in params.items()]


def format_value(value: Any) -> str:
    """A value of YAML or JSON as it stands in an override."""
    return value if isinstance(value, str) else json.dumps(value)


def format_number(value: float, axis: Interval) -> str:
    """A number as it stands in an override, exactly."""
    return str(round(value)) if axis.integer else repr(float(value))
