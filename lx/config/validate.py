"""Check a composed configuration before anything is imported, read or written."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from lx.config.auto import without_auto
from lx.config.grammar import for_shell
from lx.config.objective import check_objective
from lx.config.ranges import Range
from lx.config.schema import BUILT, OF_OPTIONS, Settings, SlurmSettings
from lx.config.session import conf_dir
from lx.errors import LxError, shorten_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

# Options of sbatch that lx sets itself, and what to do instead of giving them.
_SET_BY_LX = {
    "job_name": "say name=... instead",
    "nodes": "say hardware.num_nodes=... instead",
    "gpus_per_node": "say hardware.gpus=... instead",
    "signal": "say hardware.grace=... instead",
    **dict.fromkeys(("ntasks", "ntasks_per_node"), "there is always one task on each node"),
    **dict.fromkeys(("array", "output", "error", "open_mode", "requeue", "no_requeue"), "lx sets this itself"),
}

_LARGEST_INT = 2**53  # whole numbers up to here are exact in floating point, too
_WORDS: dict[type, str] = {
    **{int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"},
    **{list: "a list", dict: "a mapping"},
}


def check_config(cfg: DictConfig, defaults: DictConfig) -> None:
    """Check types, ranges and the facts that hold across groups.

    ``defaults`` are the same groups composed without value overrides: a value must have the type of its default. What
    is ``auto`` is checked by its value of ``recipe=plain``.

    Raises:
        LxError: names the key, what it must be, and what it is.
    """
    cfg, defaults = without_auto(cfg), without_auto(defaults)
    _check_schema(cfg, Settings, "")
    if "submit" in cfg.hardware:
        _check_schema(cfg.hardware, SlurmSettings, "hardware.")
    _check_nodes(cfg)
    _check_options(cfg)
    _check_types(cfg, defaults, Settings, "")
    check_objective(cfg.objective)
    _check_launch(cfg)
    _check_model(cfg)


def _check_nodes(cfg: DictConfig) -> None:
    """Check that no group was removed, and that each names what to build."""
    from omegaconf import DictConfig

    for name in BUILT:
        if name not in cfg:
            raise _removed(name)
        if not isinstance(cfg[name], DictConfig) or not cfg[name].get("_target_"):
            raise LxError(f"{name} must choose an option, such as those that lx train --help lists, not {cfg[name]!r}")
    if not isinstance(cfg.data.get("source"), DictConfig) or not cfg.data.source.get("_target_"):
        raise LxError("data.source must be a node with a _target_: choose data=files, data=hub or another option")
    for name in ("callbacks", "logger"):
        if name not in cfg:
            raise _removed(name)
        for key, node in (cfg[name] or {}).items():
            if node is not None and not (isinstance(node, DictConfig) and node.get("_target_")):
                raise LxError(f"{name}.{key} must be null or a node with a _target_, not {node!r}")


def _check_options(cfg: DictConfig) -> None:
    """Check the settings of options that lx's own classes read; those of a user's class are the user's."""
    for key, annotation in OF_OPTIONS.items():
        group, parent = key.partition(".")[0], key.rpartition(".")[0]
        target = str(_select(cfg, "data.source._target_" if group == "data" else f"{parent}._target_"))
        if target.startswith(("lx.", "torch.")) and _is_set(cfg, key):
            _check_value(key, _select(cfg, key), annotation)


def _check_launch(cfg: DictConfig) -> None:
    """Check that ``launch=inline`` needs no second process, and that a job says what to ask Slurm for."""
    hardware = cfg.hardware
    on_slurm = "submit" in hardware
    if cfg.launch == "inline":
        single = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        too_much = [f"hardware.{key}={hardware[key]}" for key, value in single.items() if hardware[key] != value]
        if on_slurm or too_much:
            raise LxError(
                "launch=inline trains in this process, on one device, and cannot do what "
                f"{'hardware=slurm' if on_slurm else too_much[0]} asks for: choose other hardware, or "
                "use lx train with launch=process (debug=fast sets launch=inline)"
            )
    if on_slurm:
        _check_slurm(cfg)


def _check_model(cfg: DictConfig) -> None:
    """Check the model's sizes against each other, against the data, and against the tokenizer."""
    dim, heads = _select(cfg, "model.dim"), _select(cfg, "model.num_heads")
    if dim is not None and heads is not None and dim % heads:
        raise LxError(
            f"model.dim={dim} is not divisible by model.num_heads={heads}: every head needs the same width; "
            f"try model.dim={heads * round(dim / heads) or heads}"
        )
    longest = _select(cfg, "model.position.max_length")
    if longest is not None and cfg.data.max_length > longest:
        raise LxError(
            f"data.max_length={cfg.data.max_length} goes beyond the {longest} positions that the model learns "
            f"(model.position.max_length): lower the one or raise the other"
        )
    if str(_select(cfg, "model._target_")).endswith(".PretrainedClassifier"):
        path, tokenizer = _select(cfg, "model.path"), _select(cfg, "tokenizer.path")
        if tokenizer != path or "path" not in cfg.tokenizer:
            raise LxError(
                f"model=pretrained needs the tokenizer that it was trained with, not {tokenizer or 'another kind'}: "
                "leave out tokenizer=... and tokenizer.path=..., then it is read from model.path"
            )


def _check_slurm(cfg: DictConfig) -> None:
    """Check that what Slurm is asked for is known when the job is submitted."""
    from omegaconf import DictConfig

    hardware = cfg.hardware
    if hardware.devices == "auto":
        raise LxError("hardware.devices=auto: Slurm needs the number to reserve for the run: hardware.devices=4")
    if hardware.grace >= 60 * hardware.time:
        raise LxError(
            f"hardware.grace={hardware.grace} seconds leave nothing of hardware.time={hardware.time} minutes: "
            "lower the one or raise the other"
        )
    if hardware.extra is None:
        return
    if not isinstance(hardware.extra, DictConfig):
        raise LxError(
            f"hardware.extra must be options of sbatch or null, such as {{nice: 100}}, not {hardware.extra!r}"
        )
    for key, value in ((str(key), value) for key, value in hardware.extra.items()):
        name = key.replace("-", "_")
        if name in hardware or name in _SET_BY_LX:
            raise LxError(f"hardware.extra.{key}: {_SET_BY_LX.get(name, f'say hardware.{name}=... instead')}")
        _require(f"hardware.extra.{key}", value, (str, int, float, bool))


def _check_types(cfg: DictConfig, defaults: DictConfig, schema: type | None, prefix: str) -> None:
    """Check that a value that no schema declares has the type of its default; a whole number may stand for a float."""
    from omegaconf import DictConfig

    _refuse_removal(cfg, defaults, prefix)
    declared = {} if schema is None else typing.get_type_hints(schema)
    for name in map(str, cfg):
        key = f"{prefix}{name}"
        if name not in defaults or not _is_set(cfg, name) or not _is_set(defaults, name) or key in OF_OPTIONS:
            continue
        value, default = cfg[name], defaults[name]
        if isinstance(value, DictConfig) and isinstance(default, DictConfig):
            _check_types(value, default, declared.get(name), f"{key}.")
        elif isinstance(default, DictConfig) and (conf_dir() / (group := key.replace(".", "/"))).is_dir():
            option = value if isinstance(value, str) else "OPTION"
            raise LxError(f"{key} holds the settings of an option, which is chosen with a slash: {group}={option}")
        elif name not in declared and value is not None and isinstance(default, bool | int | float | str):
            allowed = (int, float) if isinstance(default, float) else (type(default),)
            _require(key, value, allowed)


def _refuse_removal(cfg: DictConfig, defaults: DictConfig, prefix: str) -> None:
    """Refuse the removal of a setting, except from a node that builds another class than by default."""
    removed = sorted(set(map(str, defaults)) - set(map(str, cfg)))
    may_shrink = prefix in ("callbacks.", "logger.", "recipe.")
    if removed and not may_shrink and cfg.get("_target_") in (None, defaults.get("_target_")):
        raise _removed(f"{prefix}{removed[0]}")


def _check_schema(cfg: DictConfig, schema: type, prefix: str) -> None:
    from omegaconf import DictConfig

    for name, annotation in typing.get_type_hints(schema, include_extras=True).items():
        key = f"{prefix}{name}"
        if name not in cfg:
            raise _removed(key)
        if not is_dataclass(annotation):
            _check_value(key, cfg[name], annotation)
        elif isinstance(cfg[name], DictConfig):
            assert isinstance(annotation, type)
            _check_schema(cfg[name], annotation, f"{key}.")
        else:
            raise LxError(f"{key} must be a group of settings, not {cfg[name]!r}")


def _check_value(key: str, value: Any, annotation: Any) -> None:
    """Check a value against a type of the schema, and against the ranges that it is annotated with."""
    from omegaconf import OmegaConf

    kind, *ranges = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    plain = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    _require(key, plain, (*allowed, int) if float in allowed else allowed)
    for range_ in ranges:
        _require_in(key, plain, range_)


def _require(key: str, value: object, allowed: tuple[type, ...]) -> None:
    is_stray_bool = isinstance(value, bool) and bool not in allowed  # to Python, True is a whole number
    if is_stray_bool or not isinstance(value, allowed):
        kinds = " or ".join(_WORDS[kind] for kind in allowed if not (kind is int and float in allowed))
        hint = f"; if it is meant: {for_shell(key, str(value))}" if allowed[0] is str else ""
        raise LxError(f"{key} must be {kinds}, not {shorten_text(repr(value))}{hint}")
    if value == "":
        raise LxError(f"{key} is empty: give it a value, or leave it out")
    if isinstance(value, float) and not math.isfinite(value):
        raise LxError(f"{key} must be a finite number, not {value!r}")
    if isinstance(value, int) and abs(value) > _LARGEST_INT:
        raise LxError(f"{key} must be at most {_LARGEST_INT}, not {shorten_text(repr(value))}")


def _require_in(key: str, value: object, allowed: Range) -> None:
    if value is not None and not allowed.holds(value):
        raise LxError(f"{key} must be {allowed.words}, not {shorten_text(repr(value))}")


def _removed(key: str) -> LxError:
    instead = {"logger": "; for no tracking: logger=none", "scheduler": "; for no schedule: scheduler=constant"}
    return LxError(f"{key} is missing, but needed: leave out ~{key}{instead.get(key, '')}")


def _is_set(cfg: DictConfig, key: str) -> bool:
    """Return whether a setting exists and has a value, which may be null."""
    from omegaconf import OmegaConf

    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    return OmegaConf.is_dict(node) and name in node and not OmegaConf.is_missing(node, name)


def _select(cfg: DictConfig, key: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.select(cfg, key, default=None)
