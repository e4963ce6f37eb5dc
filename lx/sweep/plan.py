"""The plan of a sweep: read from its command, and every value checked, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lx.config.auto import apply_recipe
from lx.config.compose import compose_with, resolved
from lx.config.grammar import as_grammar, with_files
from lx.config.messages import plain_errors
from lx.config.session import compose_choices, compose_sweep, group_choices
from lx.errors import LxError
from lx.sweep.automatic import choose_by_data, open_params, with_factors
from lx.sweep.combinations import grid, probes, read_trials
from lx.sweep.limits import seconds_of
from lx.sweep.space import Axis, Choices, Params, Space, format_value, overrides_of, parse_space

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig

_MOST_PROBES = 200
_COUNTS = ("n_trials", "seeds", "n_jobs", "per_gpu", "threads", "max_failures", "confirm", "confirm_seeds", "max_bytes")
ADJUSTABLE = frozenset(
    {"n_jobs", "per_gpu", "retries", "max_failures", "budget", "n_trials", "seeds", "confirm", "confirm_seeds"}
)
"""Settings that a resumed sweep may change; n_trials and seeds may only grow."""
CHECKED_OTHERWISE = ADJUSTABLE | {"dir", "params", "threads", "exclude", "list", "zip"}


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do, known and checked before its first run.

    Attributes:
        overrides: of the command, in order.
        config_dir: the user's folder of config groups.
        settings: the node ``sweep``.
        space: what varies.
        listed: every trial of a grid or a list; None: a search.
        metric: the objective.
        mode: ``max`` or ``min``.
        hardware: of the first trial.
        defaults: the value that each axis has without the sweep, if the axis includes it: a search begins with these.
    """

    overrides: tuple[str, ...]
    config_dir: str | None
    settings: dict[str, Any]
    space: Space
    listed: list[Params] | None
    metric: str
    mode: str
    hardware: dict[str, Any]
    defaults: dict[str, Any]

    @property
    def axes(self) -> list[Axis]:
        """The axes of the study; for ``sweep.list``, the keys and values that its trials name."""
        if self.listed is None or self.settings["list"] is None:
            return list(self.space.axes)
        keys = dict.fromkeys(key for params in self.listed for key in params)
        values = {key: dict.fromkeys(params[key] for params in self.listed if key in params) for key in keys}
        return [Choices(key, tuple(distinct)) for key, distinct in values.items()]

    @property
    def further_objectives(self) -> dict[str, str]:
        """The objectives besides the metric: ``max`` or ``min`` by name."""
        return dict(text.rsplit(":", 1) for text in self.settings["objectives"])

    @property
    def measures_latency(self) -> bool:
        """Whether every run measures how long a prediction takes."""
        return "latency" in self.further_objectives or self.settings["max_latency"] is not None

    @property
    def is_automatic(self) -> bool:
        """Whether this is ``sweep=auto``: runs are limited to the time left, and the best may be averaged."""
        return bool(self.settings["around"])

    @property
    def num_trials(self) -> int:
        """How many configurations there are."""
        return int(self.settings["n_trials"]) if self.listed is None else len(self.listed)


def make_plan(hydra: Hydra, overrides: Sequence[str], config_dir: str | None, num_checked: int | None = None) -> Plan:
    """Read a sweep's command and check every value of every axis, before anything is written.

    Args:
        hydra: an open session.
        overrides: of the command.
        config_dir: the user's folder of config groups.
        num_checked: how many combinations to check; None: all, or a sample of many. 1 if they were checked before.

    Raises:
        LxError: a value that training would refuse, an axis that does not fit the kind of sweep, or wrong settings.
    """
    overrides = with_files(as_grammar(overrides, several=True))
    settings = read_settings(hydra, overrides)
    _check_settings(settings)
    run_overrides = [text for text in overrides if not _is_about_sweep(text)]
    if run_dir := next((text for text in run_overrides if text.startswith("run_dir=")), None):
        raise LxError(f"{run_dir}: a sweep has a directory for each of its runs, in that of sweep.dir=DIR")
    space, chosen = _read_space(hydra, run_overrides, settings)
    listed = _listed(space, settings)
    if listed is None and not space.axes:
        raise LxError("a search needs something to vary: give values as in model=tiny,small or interval(1e-5,1e-2)")
    first = _check_values(hydra, space, listed, num_checked)
    return Plan(
        overrides=tuple(overrides),
        config_dir=config_dir,
        settings=settings,
        space=space,
        listed=listed,
        metric=str(first.objective.metric),
        mode=str(first.objective.mode),
        hardware=resolved(first)["hardware"],
        defaults={} if listed is not None else _defaults(hydra, space, chosen),
    )


def _read_space(hydra: Hydra, overrides: list[str], settings: dict[str, Any]) -> tuple[Space, DictConfig | None]:
    """Return what varies, and for ``sweep=auto`` the configuration with the values that the data chooses."""
    params, num_seeds = settings["params"], settings["seeds"]
    if not settings["around"]:
        return parse_space(hydra, overrides, params, num_seeds), None
    fixed = parse_space(hydra, overrides, {}, num_seeds).fixed
    params = open_params(compose_with(hydra, fixed), params)
    chosen = choose_by_data(hydra, fixed)
    return with_factors(parse_space(hydra, overrides, params, num_seeds), settings["around"], chosen), chosen


def _defaults(hydra: Hydra, space: Space, chosen: DictConfig | None) -> dict[str, Any]:
    """Return the value that each axis has in a run without the sweep, where it is one of the axis's values.

    For an interval this is the value that the data has chosen, if there is a ``chosen`` configuration.
    """
    from omegaconf import OmegaConf

    cfg = deepcopy(compose_choices(hydra, tuple(group_choices(hydra, space.fixed))))
    apply_recipe(cfg, cfg.get("recipe") or {})
    options = cfg.hydra.runtime.choices
    defaults: dict[str, Any] = {}
    for axis in space.axes:
        value = options[axis.key] if axis.key in options else OmegaConf.select(cfg, axis.key.lstrip("+"))
        if isinstance(axis, Choices):
            text = format_value(OmegaConf.to_object(value) if OmegaConf.is_config(value) else value)
            if text in axis.values:
                defaults[axis.key] = text
        else:
            number = value if chosen is None else OmegaConf.select(chosen, axis.key)
            if isinstance(number, int | float) and axis.low <= number <= axis.high:
                defaults[axis.key] = number
    return defaults


def read_settings(hydra: Hydra, overrides: Sequence[str]) -> dict[str, Any]:
    """Compose the node ``sweep`` from those of a command's overrides that are about it, unchecked."""
    about_sweep = [text for text in overrides if _is_about_sweep(text)]
    with plain_errors(hydra, about_sweep):
        return resolved(compose_sweep(hydra, about_sweep))


def _is_about_sweep(override: str) -> bool:
    return override.lstrip("+").startswith(("sweep=", "sweep.", "sweep/"))


def _check_settings(settings: Mapping[str, Any]) -> None:
    for name in _COUNTS:
        value = settings[name]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise LxError(f"sweep.{name} must be a whole number of at least 1, not {value!r}")
    if not isinstance(settings["reduction"], int) or settings["reduction"] < 2:
        raise LxError(f"sweep.reduction must be a whole number of at least 2, not {settings['reduction']!r}")
    for text in settings["objectives"]:
        if not re.fullmatch(r"(val/\S+|seconds|parameters|latency):(max|min)", str(text)):
            raise LxError(
                f"sweep.objectives: {text!r} is none: besides objective.metric there are seconds, parameters, latency "
                "and the metrics of validation, such as parameters:min or val/loss:min"
            )
    if settings["objectives"] and (settings["pruner"] or settings["promote"]):
        raise LxError("sweep.objectives: trials are pruned or promoted by one objective: leave out sweep.objectives")
    if settings["objectives"] and (settings["race"] or settings["confirm"]):
        raise LxError("sweep.objectives: sweep.race and sweep.confirm choose by one objective: leave them out")
    if settings["promote"] and settings["pruner"]:
        raise LxError("sweep.promote=true pauses trials by itself: leave out sweep/pruner")
    latency = settings["max_latency"]
    if latency is not None and (not isinstance(latency, int | float) or latency <= 0):
        raise LxError(f"sweep.max_latency must be a number of milliseconds above 0, not {latency!r}")
    if seconds_of(settings["budget"]) is None and settings["around"]:
        raise LxError("sweep=auto needs a time: sweep.budget=10m")


def _listed(space: Space, settings: Mapping[str, Any]) -> list[Params] | None:
    """Every trial of a grid or a list; None for a search."""
    if settings["list"] is not None:
        if space.axes:
            raise LxError(f"sweep.list names the trials, so {space.axes[0].key} cannot vary beside it")
        return read_trials(Path(settings["list"]))
    if settings["sampler"] is not None:
        if settings["n_trials"] is None:
            raise LxError("a search needs to know how long: give sweep.n_trials=N")
        return None
    if settings["n_trials"] is not None:
        raise LxError("sweep.n_trials is for searches (sweep=random or sweep=tpe): a grid tries all combinations")
    listed = grid(space, settings["exclude"], settings["zip"])
    if not listed:
        raise LxError("sweep.exclude leaves no combination")
    return listed


def _check_values(hydra: Hydra, space: Space, listed: list[Params] | None, num_checked: int | None) -> DictConfig:
    """Compose and check the trials of a sweep, or a sample of them; return the configuration of the first."""
    checked = probes(space, _MOST_PROBES) if listed is None or len(listed) > _MOST_PROBES else listed
    first_trial, *other_trials = [overrides_of(params) for params in islice(checked, num_checked)]
    first_seed, *other_seeds = [f"seed={seed}" for seed in (space.seeds[0], min(space.seeds), max(space.seeds))]
    first = _compose_trial(hydra, space, [*first_trial, first_seed])
    for trial in other_trials:
        _compose_trial(hydra, space, [*trial, first_seed])
    for seed in other_seeds:
        _compose_trial(hydra, space, [*first_trial, seed])
    return first


def _compose_trial(hydra: Hydra, space: Space, overrides: list[str]) -> DictConfig:
    try:
        return compose_with(hydra, [*space.fixed, *overrides])
    except LxError as error:
        hint = "; a setting that only some trials have needs sweep.list=FILE" if "no setting" in str(error) else ""
        raise LxError(f"{' '.join(overrides)}: {error}{hint}") from error
