"""The space of ``sweep=auto``: axes around the values that the data chooses, for settings that are left open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lx.config.auto import AUTO, is_auto
from lx.config.compose import compose_with
from lx.sweep.space import Axis, Interval, Space

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra
    from omegaconf import DictConfig


def open_params(cfg: DictConfig, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``params`` whose settings a configuration leaves open.

    A setting is open if it is ``auto``. A number is open too, unless the values to try are a list with ``auto`` in it.

    Args:
        cfg: the configuration composed from the overrides that the command line fixes.
        params: the axes of a sweep's file: values to try, by key.
    """
    from omegaconf import OmegaConf

    def is_open(key: str, values: Any) -> bool:
        if is_auto(cfg, key):
            return True
        value = OmegaConf.select(cfg, key, default=None)
        return isinstance(value, int | float) and not (isinstance(values, list) and AUTO in values)

    return {key: values for key, values in params.items() if is_open(key, values)}


def with_factors(space: Space, around: Mapping[str, Sequence[float]], chosen: DictConfig) -> Space:
    """Add an axis around each value that the data has chosen, except for keys that are fixed or vary already.

    Args:
        space: the axes so far.
        around: for each key, the smallest and the largest factor to multiply the chosen value by.
        chosen: the configuration, with a value in place of each ``auto``.
    """
    from omegaconf import OmegaConf

    taken = {axis.key for axis in space.axes} | {text.partition("=")[0].lstrip("+~") for text in space.fixed}
    if "trainer.max_steps" in taken:  # the steps fix the length of a run
        taken.add("trainer.max_epochs")
    axes: list[Axis] = []
    for key, factors in around.items():
        value = OmegaConf.select(chosen, key, default=None)
        if key in taken or not isinstance(value, int | float) or value <= 0:
            continue
        low, high = (value * factor for factor in factors)
        if is_integer := isinstance(value, int):
            low, high = max(1, round(low)), max(1, round(high))
        if low < high:
            axes.append(Interval(key, low, high, log=True, integer=is_integer))
    return replace(space, axes=(*space.axes, *axes))


def choose_by_data(hydra: Hydra, fixed: Sequence[str]) -> DictConfig:
    """Compose a configuration and let the data choose what is ``auto``; the data is read, or found in the cache.

    Raises:
        LxError: the data is refused.
    """
    from lx.config.instantiate import build
    from lx.data.sources.build import build_source
    from lx.tasks.base import encoder_factory
    from lx.training.recipe import resolve

    cfg = compose_with(hydra, fixed)
    return resolve(cfg, build_source(cfg.data), encoder_factory(build(cfg.task, "task")))[0]
