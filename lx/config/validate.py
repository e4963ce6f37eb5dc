"""Checks of a composed configuration, before anything is imported, read or written."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

from lx.config.schema import Settings, SlurmSettings
from lx.errors import LxError

if TYPE_CHECKING:
    from omegaconf import DictConfig

# key, what must hold, and the sentence that says so; a key that is absent or null is not checked.
_RANGES: list[tuple[str, Callable[[Any], bool], str]] = [
    ("seed", lambda v: 0 <= v < 2**32, "a whole number from 0 to 4294967295"),
    ("launch", lambda v: v in ("process", "inline", "prepare"), "process, inline or prepare"),
    ("objective.mode", lambda v: v in ("max", "min"), "max or min"),
    ("data.batch_size", lambda v: v >= 1, "at least 1"),
    ("data.max_length", lambda v: v >= 4, "at least 4, for a piece of text between its special tokens"),
    ("data.validation_fraction", lambda v: 0 < v < 1, "between 0 and 1"),
    ("data.on_empty", lambda v: v in ("drop", "error"), "drop or error"),
    ("trainer.max_epochs", lambda v: v >= 1, "at least 1"),
    ("trainer.max_steps", lambda v: v >= 1, "at least 1"),
    ("trainer.gradient_clip_val", lambda v: v > 0, "above 0, or null"),
    ("trainer.ema_decay", lambda v: 0 < v < 1, "between 0 and 1, or null"),
    ("trainer.early_stopping_patience", lambda v: v >= 1, "at least 1, or null"),
    ("trainer.check_val_every_n_epoch", lambda v: v >= 1, "at least 1"),
    ("trainer.val_check_interval", lambda v: v >= 1, "at least 1, or null"),
    ("trainer.log_every_n_steps", lambda v: v >= 1, "at least 1"),
    ("trainer.limit_train_batches", lambda v: v >= 1, "at least 1, or null"),
    ("trainer.limit_eval_batches", lambda v: v >= 1, "at least 1, or null"),
    ("trainer.save_every_n_steps", lambda v: v >= 1, "at least 1, or null"),
    ("trainer.save_every_n_minutes", lambda v: v > 0, "above 0, or null"),
    ("trainer.keep_best", lambda v: v >= 1, "at least 1"),
    ("trainer.on_nan", lambda v: v in ("stop", "skip"), "stop or skip"),
    ("hardware.devices", lambda v: v == "auto" or (isinstance(v, int) and v >= 1), "at least 1, or auto"),
    ("hardware.num_nodes", lambda v: v >= 1, "at least 1"),
    ("hardware.strategy", lambda v: v in ("auto", "ddp", "fsdp"), "auto, ddp or fsdp"),
    ("hardware.micro_batch", lambda v: v == "auto" or (isinstance(v, int) and v >= 1), "at least 1, auto or null"),
    ("hardware.num_workers", lambda v: v >= 0, "0 or more"),
    ("hardware.threads", lambda v: v >= 1, "at least 1, or null"),
    ("hardware.submit", lambda v: v == "slurm", "slurm"),
    ("hardware.time", lambda v: v >= 1, "at least 1 minute"),
    ("hardware.grace", lambda v: v >= 1, "at least 1 second"),
    ("hardware.cpus_per_task", lambda v: v >= 1, "at least 1, or null"),
    ("hardware.mem", lambda v: isinstance(v, str) or v >= 0, "0 or more, or a size such as 32G"),
    (
        "hardware.gpus",
        lambda v: isinstance(v, str) or v >= 1,
        "at least 1, a type and a number such as a100:4, or null",
    ),
    ("optimizer.lr", lambda v: v > 0, "above 0"),
    ("optimizer.weight_decay", lambda v: v >= 0, "0 or more"),
    ("model.dim", lambda v: v >= 1, "at least 1"),
    ("model.num_layers", lambda v: v >= 1, "at least 1"),
    ("model.num_heads", lambda v: v >= 1, "at least 1"),
    ("model.dropout", lambda v: 0 <= v < 1, "from 0 up to, but not including, 1"),
    ("task.label_smoothing", lambda v: 0 <= v < 1, "from 0 up to, but not including, 1"),
    ("tokenizer.vocab_size", lambda v: v >= 5, "at least 5: there are 4 special tokens"),
]

# Options of sbatch that lx gives itself, and what to say to who gives them, too.
_OURS = {
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
    "model.embedding_dim": int,
    "model.vectors": str,
    "tokenizer.path": str,
}


def check_config(cfg: DictConfig, defaults: DictConfig) -> None:
    """Check types, ranges and the facts that hold across groups.

    Args:
        cfg: the composed configuration.
        defaults: the same groups composed without value overrides; a value must have its default's type.

    Raises:
        LxError: names the key, what it must be, and what it is.
    """
    _check_schema(cfg, Settings, "")
    if "submit" in cfg.hardware:
        _check_schema(cfg.hardware, SlurmSettings, "hardware.")
    _check_types(cfg, defaults, Settings, "")
    for key, kind in _NULLABLE.items():
        if (value := _select(cfg, key)) is not None:
            _require(key, value, (kind, type(None)))
    for key, holds, sentence in _RANGES:
        value = _select(cfg, key)
        if value is not None and not holds(value):
            raise LxError(f"{key} must be {sentence}, not {value!r}")
    if "submit" in cfg.hardware:
        _check_slurm(cfg)
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


def _check_slurm(cfg: DictConfig) -> None:
    """What Slurm is asked for must be numbers that are known when the job is submitted."""
    from omegaconf import DictConfig

    hardware = cfg.hardware
    if hardware.devices == "auto":
        raise LxError("hardware.devices=auto: Slurm must be told how many to keep for the run: hardware.devices=4")
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
        if name in hardware or name in _OURS:
            raise LxError(f"hardware.extra.{key}: {_OURS.get(name, f'say hardware.{name}=... instead')}")
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
    for name, annotation in typing.get_type_hints(schema).items():
        key, value = f"{prefix}{name}", cfg[name]
        if is_dataclass(annotation):
            assert isinstance(annotation, type)
            _check_schema(value, annotation, f"{key}.")
            continue
        allowed = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
        _require(key, value, (*allowed, int) if float in allowed else allowed)


def _require(key: str, value: object, allowed: tuple[type, ...]) -> None:
    is_stray_bool = isinstance(value, bool) and bool not in allowed  # to Python, True is a whole number
    if is_stray_bool or not isinstance(value, allowed):
        words = {
            int: "a whole number",
            float: "a number",
            str: "text",
            bool: "true or false",
            type(None): "null",
        }
        kinds = " or ".join(words[kind] for kind in allowed if not (kind is int and float in allowed))
        hint = f"; quote it twice, {key}=\"'{value}'\", if it is meant" if allowed[0] is str else ""
        raise LxError(f"{key} must be {kinds}, not {value!r}{hint}")


def _select(cfg: DictConfig, key: str) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.select(cfg, key, default=None)
