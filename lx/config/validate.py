"""Check a composed configuration before anything is imported, read or written."""

from __future__ import annotations

import types
import typing
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Annotated, Any

from lx.config.ranges import RANGES, Range
from lx.config.schema import Settings, SlurmSettings
from lx.errors import LxError

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

# The type of a setting whose default is null, where no dataclass of lx.config.schema says it.
_NULLABLE: dict[str, type] = {
    "data.train": str,
    "data.validation": str,
    "data.test": str,
    "data.text_pair": str,
    "data.label_separator": str,
    "model.conv_width": int,
    "model.embedding_dim": int,
    "model.embedding_dropout": float,
    "model.head_dropout": float,
    "model.vectors": str,
    "tokenizer.path": str,
}


def check_config(cfg: DictConfig, defaults: DictConfig) -> None:
    """Check types, ranges and the facts that hold across groups.

    ``defaults`` are the same groups composed without value overrides: a value must have the type of its default.

    Raises:
        LxError: names the key, what it must be, and what it is.
    """
    _check_schema(cfg, Settings, "")
    if "submit" in cfg.hardware:
        _check_schema(cfg.hardware, SlurmSettings, "hardware.")
    _check_types(cfg, defaults, Settings, "")
    for key, kind in _NULLABLE.items():
        if (value := _select(cfg, key)) is not None:
            _require(key, value, (kind, int, type(None)) if kind is float else (kind, type(None)))
    for key, allowed in RANGES.items():
        _require_in(key, _select(cfg, key), allowed)
    _check_launch(cfg)
    _check_model(cfg)


def _check_launch(cfg: DictConfig) -> None:
    """Check that what trains in this process needs no other, and that Slurm can be asked for what the job needs."""
    hardware = cfg.hardware
    on_slurm = "submit" in hardware
    if cfg.launch == "inline":
        single = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        too_much = [f"hardware.{key}={hardware[key]}" for key, value in single.items() if hardware[key] != value]
        if on_slurm or too_much:
            raise LxError(
                "launch=inline trains in this process, on one device, and cannot do what "
                f"{'hardware=slurm' if on_slurm else too_much[0]} asks for: choose other hardware, or add "
                "launch=process (debug=fast sets launch=inline)"
            )
    if on_slurm:
        _check_slurm(cfg)


def _check_model(cfg: DictConfig) -> None:
    """Check the model's sizes against each other, and what it takes in against the data and the tokenizer."""
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
    """What Slurm is asked for must be numbers that are known when the job is submitted."""
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
    """A value that no schema declares overrides a default of its type; a whole number may stand for a float."""
    from omegaconf import DictConfig, OmegaConf

    declared = {} if schema is None else typing.get_type_hints(schema)
    for name in map(str, cfg):
        if name not in defaults or OmegaConf.is_missing(cfg, name) or OmegaConf.is_missing(defaults, name):
            continue
        value, default, key = cfg[name], defaults[name], f"{prefix}{name}"
        if isinstance(value, DictConfig) and isinstance(default, DictConfig):
            _check_types(value, default, declared.get(name), f"{key}.")
        elif name not in declared and value is not None and isinstance(default, bool | int | float | str):
            allowed = (int, float) if isinstance(default, float) else (type(default),)
            _require(key, value, allowed)


def _check_schema(cfg: DictConfig, schema: type, prefix: str) -> None:
    for name, annotation in typing.get_type_hints(schema, include_extras=True).items():
        key, value = f"{prefix}{name}", cfg[name]
        if is_dataclass(annotation):
            assert isinstance(annotation, type)
            _check_schema(value, annotation, f"{key}.")
            continue
        kind, *ranges = typing.get_args(annotation) if typing.get_origin(annotation) is Annotated else (annotation,)
        allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
        _require(key, value, (*allowed, int) if float in allowed else allowed)
        for range_ in ranges:
            _require_in(key, value, range_)


def _require(key: str, value: object, allowed: tuple[type, ...]) -> None:
    is_stray_bool = isinstance(value, bool) and bool not in allowed  # to Python, True is a whole number
    if is_stray_bool or not isinstance(value, allowed):
        words = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "null"}
        kinds = " or ".join(words[kind] for kind in allowed if not (kind is int and float in allowed))
        hint = f"; quote it twice, {key}=\"'{value}'\", if it is meant" if allowed[0] is str else ""
        raise LxError(f"{key} must be {kinds}, not {value!r}{hint}")


def _require_in(key: str, value: object, allowed: Range) -> None:
    if value is not None and not allowed.holds(value):
        raise LxError(f"{key} must be {allowed.words}, not {value!r}")


def _select(cfg: DictConfig, key: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.select(cfg, key, default=None)
