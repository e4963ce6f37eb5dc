"""Decide which settings of a run may change when it is resumed, and apply them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from lx.config.auto import AUTO, AUTO_NODES, AUTO_VALUES, auto_keys, fill, is_auto
from lx.config.compose import compose, resolved
from lx.config.flatten import flatten
from lx.config.grammar import as_grammar, parse
from lx.config.instantiate import check_targets
from lx.config.validate import check_config
from lx.errors import LxError, did_you_mean
from lx.run.directory import RunDirectory

# What may change without making it another run: speed, tracking, where it trains, the length, and what is saved when.
ADJUSTABLE = (
    "hardware",
    "launch",
    "logger",
    "data.train",  # where it lies now: the content must be the same
    "data.validation",
    "data.test",
    "data.path",
    "data.cache_dir",
    "data.keep_texts",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.save_every_n_steps",
    "trainer.save_every_n_minutes",
    "trainer.on_nan",
)
_ADDITION = re.compile(r"(trainer\.max_(?:epochs|steps))=\+(\d+)$")


def resumed_config(run: RunDirectory, overrides: Sequence[str], trust: Sequence[str]) -> dict[str, Any]:
    """Check an interrupted run and return the configuration to go on with.

    Args:
        run: its directory.
        overrides: of the settings in ``ADJUSTABLE`` (``trainer.max_epochs=+2`` adds two epochs).
        trust: packages whose classes may be built from the run's configuration.

    Raises:
        LxError: not a run, one that was refused, or overrides that would make it another run.
    """
    overrides = as_grammar(overrides)
    config = run.read_config()
    check_targets(config, run.config, trust)
    for name in ("launch", "data", "trainer", "hardware"):
        if name not in config:
            raise LxError(f"{run.config} has no {name}: this is not the configuration of a run")
    for override in overrides:
        _check_adjustable(override, config)
    if config["launch"] == "prepare" and "launch" not in map(_key, overrides):
        config["launch"] = "process"  # its ranks are started by lx now
    return _overridden(config, overrides) if overrides else config


def _check_adjustable(override: str, config: dict[str, Any]) -> None:
    """Refuse to change a setting that is none of ``ADJUSTABLE``, or to remove one."""
    key = _key(override)
    if not _is_one_of(key, ADJUSTABLE):
        name = key.partition("@")[0].replace("/", ".")
        known = [setting for setting in flatten(config) if "." in setting] if "." in name else [*config]
        why = f"{key} cannot change when a run goes on: it would be another run"
        if not any(_is_one_of(setting, [name]) for setting in known) and (hint := did_you_mean(name, known)):
            why = f"there is no setting {key!r}{hint}"
        raise LxError(f"{why}. What can change: {', '.join(ADJUSTABLE)}")
    if override.startswith("~"):
        raise LxError(f"{override}: a run that goes on keeps its settings: leave it out, or choose another value")


def with_choices(run: RunDirectory, config: dict[str, Any]) -> dict[str, Any]:
    """Replace each ``auto`` in a newly composed configuration of a run by the value that the data has chosen before.

    Of a setting that an older run does not have, ``auto`` is left out.
    """
    from omegaconf import OmegaConf

    config_before = run.read_config()
    cfg, before = OmegaConf.create(config), OmegaConf.create(config_before)
    for key in run.read_reasons():
        if is_auto(cfg, key):
            value = OmegaConf.select(before, key)
            if key in AUTO_NODES:
                fixed = {name: setting for name, setting in OmegaConf.select(cfg, key).items() if setting != AUTO}
                OmegaConf.update(cfg, key, OmegaConf.merge(value, fixed), merge=False)
            else:
                fill(cfg, key, value)
        elif key == "trainer.max_steps" and cfg.trainer.max_steps is None:  # it follows from trainer.max_minutes
            cfg.trainer.max_steps = before.trainer.max_steps
    known = flatten(config_before)
    for key in auto_keys(cfg):
        if key in AUTO_VALUES and key not in known:  # an older run has no such setting, and goes on without it
            group, _, name = key.rpartition(".")
            del OmegaConf.select(cfg, group)[name]
    return resolved(cfg)


def changed_keys(run: RunDirectory, config: dict[str, Any]) -> list[str]:
    """Return the keys in which a configuration differs from a run's, except those that may change on resumption.

    A setting that an older run does not have is no difference while it is off. If the recipe differs, the key
    ``recipe`` stands for all the settings that a recipe chooses.
    """
    config_before = run.read_config()
    before, after = flatten(config_before), flatten(config)
    ignored = (*ADJUSTABLE, "name", "run_dir", "resume", "recipe")
    compared = [key for key in {**before, **after} if not _is_one_of(key, ignored)]
    newer = {key for key in after if key not in before and (after[key] is None or after[key] is False)}
    changed = {key for key in compared if key not in newer and before.get(key) != after.get(key)}
    by_recipe = {key for key in changed if _is_one_of(key, [*AUTO_VALUES, *AUTO_NODES])}
    if by_recipe and config_before.get("recipe") != config.get("recipe"):
        changed = changed - by_recipe | {"recipe"}
    return sorted(changed)


def _overridden(config: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Replace groups and values of a configuration by those of the overrides; raise LxError for unknown settings."""
    from omegaconf import OmegaConf

    groups = [override for override in overrides if "." not in _key(override)]
    values = [override for override in overrides if override not in groups]
    composed = resolved(compose(groups)) if groups else {}
    new = OmegaConf.create({**config, **{name: composed[name] for name in map(_key, groups)}})
    max_steps = config["trainer"]["max_steps"]
    for override in values:
        key = _key(override)
        if key == "trainer.max_epochs" and max_steps is not None:
            raise LxError(f"{override}: the run is as long as its steps: change trainer.max_steps={max_steps}")
        known = flatten(resolved(new))
        if key not in known:
            parent = key.rpartition(".")[0]
            missing = key if any(name.startswith(f"{parent}.") for name in known) else parent
            raise LxError(f"{override}: the run has no {missing}{did_you_mean(key, list(known))}")
        OmegaConf.update(new, key, _value(override, config), merge=False)
    check_config(new, new)
    return resolved(new)


def _is_one_of(key: str, names: Sequence[str]) -> bool:
    """Return whether a key, or a group above it, has one of the names."""
    return any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in names)


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _value(override: str, config: dict[str, Any]) -> Any:
    """Parse the value of an override; ``trainer.max_epochs=+2`` means two more than the run has."""
    if addition := _ADDITION.match(override):
        before = config["trainer"][addition[1].partition(".")[2]]
        if before is None:
            raise LxError(f"{override}: the run has no {addition[1]} to add to; it is as long as its epochs")
        return before + int(addition[2])
    (parsed,) = parse([override])
    return parsed.value()
