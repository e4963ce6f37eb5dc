"""The types and ranges of all settings.

A value in the composed config must have the type written here, or else the type of the default that it overrides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from lx.config.ranges import (
    AUTO_OR_ABOVE_ZERO,
    COUNT_OR_NULL,
    DECAY_RATES,
    EPSILON,
    PROBABILITY,
    SEED,
    THRESHOLDS,
    VALIDATION_INTERVAL,
    Range,
    above_zero,
    at_least,
    between,
    between_zero_and_one,
    count_or_auto,
    one_of,
    text_or_at_least,
)


@dataclass(frozen=True)
class Objective:
    """What early stopping and sweeps look at, and the best checkpoint."""

    metric: str
    mode: Annotated[str, one_of("auto", "max", "min")]
    checkpoint: str


@dataclass(frozen=True)
class DataSettings:
    """The keys that every option of ``data`` has: what turns a source into batches.

    Attributes:
        batch_size: examples of a global batch, over all devices.
        max_length: tokens kept of each example.
        validation_fraction: share of the training rows cut off where the source has no validation split.
        split_seed: of that cut.
        on_empty: ``drop`` rows without text, or raise an ``error``.
        cache_dir: where corpora, tokenizers and token ids are kept; None: ``$LX_CACHE`` or ``~/.cache/lx``.
    """

    batch_size: Annotated[int, at_least(1)]
    max_length: Annotated[int, at_least(4, "at least 4, for a piece of text between its special tokens")]
    validation_fraction: Annotated[float, between_zero_and_one()]
    split_seed: Annotated[int, SEED]
    on_empty: Annotated[str, one_of("drop", "error")]
    cache_dir: str | None


@dataclass(frozen=True)
class TrainerSettings:
    """The keys of ``trainer``."""

    max_epochs: Annotated[int, at_least(1)]
    max_minutes: Annotated[float | None, above_zero("above 0, or null")]
    max_steps: Annotated[int | None, at_least(1)]
    gradient_clip_val: Annotated[float | None, above_zero("above 0, or null")]
    ema_decay: Annotated[float | None, between_zero_and_one("between 0 and 1, or null")]
    early_stopping_patience: Annotated[int | None, COUNT_OR_NULL]
    check_val_every_n_epoch: Annotated[int, at_least(1)]
    val_check_interval: Annotated[int | float | None, VALIDATION_INTERVAL]
    log_every_n_steps: Annotated[int, at_least(1)]
    limit_train_batches: Annotated[int | None, COUNT_OR_NULL]
    limit_eval_batches: Annotated[int | None, COUNT_OR_NULL]
    save_every_n_steps: Annotated[int | None, COUNT_OR_NULL]
    save_every_n_minutes: Annotated[float | None, above_zero("above 0, or null")]
    keep_best: Annotated[int, at_least(1)]
    on_nan: Annotated[str, one_of("stop", "skip")]
    deterministic: bool


@dataclass(frozen=True)
class HardwareSettings:
    """The keys of ``hardware``."""

    accelerator: str
    devices: Annotated[int | str, count_or_auto()]
    num_nodes: Annotated[int, at_least(1)]
    rdzv_endpoint: str | None
    strategy: Annotated[str, one_of("auto", "ddp", "fsdp")]
    precision: str
    micro_batch: Annotated[int | str | None, count_or_auto("at least 1, auto or null")]
    compile: Annotated[bool | str, Range(lambda value: value in (True, False, "auto"), "true, false or auto")]
    pad_multiple: Annotated[int | str, count_or_auto()]
    num_workers: Annotated[int, between(0, 1024)]
    threads: Annotated[int | None, between(1, 1024, "from 1 to 1024, or null")]


@dataclass(frozen=True)
class SlurmSettings:
    """The keys that ``hardware=slurm`` adds."""

    submit: Annotated[str, one_of("slurm")]
    partition: str | None
    account: str | None
    qos: str | None
    time: Annotated[int, at_least(1, "at least 1 minute")]
    grace: Annotated[int, at_least(1, "at least 1 second")]
    cpus_per_task: Annotated[int | None, COUNT_OR_NULL]
    mem: Annotated[int | str | None, text_or_at_least(0, "0 or more, or a size such as 32G")]
    gpus: Annotated[int | str | None, text_or_at_least(1, "at least 1, a type and a number such as a100:4, or null")]
    constraint: str | None
    wait: bool


@dataclass(frozen=True)
class Settings:
    """The keys at the top level."""

    name: str | None
    run_dir: str | None
    seed: Annotated[int, SEED]
    launch: Annotated[str, one_of("process", "inline", "prepare")]
    resume: bool
    objective: Objective
    data: DataSettings
    trainer: TrainerSettings
    hardware: HardwareSettings


OF_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(
        ("data.train", "data.validation", "data.test", "data.text_pair", "data.label_separator"), str | None
    ),
    **dict.fromkeys(("data.text", "data.label"), str),
    **dict.fromkeys(("model.vectors", "tokenizer.path"), str | None),
    "tokenizer.vocab_size": Annotated[int, at_least(5, "at least 5: there are 4 special tokens")],
    "tokenizer.min_frequency": Annotated[int, at_least(0, "0 or more")],
    **dict.fromkeys(("model.dim", "model.num_layers", "model.num_heads"), Annotated[int, at_least(1)]),
    **dict.fromkeys(("model.num_members", "model.hidden_multiple", "model.num_buckets"), Annotated[int, at_least(1)]),
    "model.embedding_dim": Annotated[int | None, COUNT_OR_NULL],
    "model.conv_width": Annotated[int | None, COUNT_OR_NULL],
    "model.compare_pairs": bool,
    **dict.fromkeys(("model.dropout", "model.token_dropout"), Annotated[float, PROBABILITY]),
    **dict.fromkeys(("model.embedding_dropout", "model.head_dropout"), Annotated[float | None, PROBABILITY]),
    **dict.fromkeys(("model.expert.words", "model.expert.characters"), str | list),
    **dict.fromkeys(("model.expert.min_count", "model.expert.max_ngrams"), Annotated[int, at_least(1)]),
    "model.expert.C": Annotated[float | str, AUTO_OR_ABOVE_ZERO],
    "model.adversarial": Annotated[float | None, above_zero("above 0, or null")],
    "model.embedding_std": Annotated[float | None, above_zero("above 0, or null")],
    "model.norm.eps": Annotated[float, above_zero()],
    "task.label_smoothing": Annotated[float, PROBABILITY],
    "task.class_weights": str | list | dict | None,
    "task.thresholds": Annotated[str | float, THRESHOLDS],
    "task.huber_delta": Annotated[float, above_zero()],
    "optimizer.lr": Annotated[float, above_zero()],
    "optimizer.weight_decay": Annotated[float, at_least(0, "0 or more")],
    "optimizer.momentum": Annotated[float, PROBABILITY],
    "optimizer.betas": Annotated[list, DECAY_RATES],
    "optimizer.eps": Annotated[float | list, EPSILON],
    "optimizer.ns_steps": Annotated[int, at_least(1)],
    "scheduler.min_ratio": Annotated[float, between(0, 1, "from 0 to 1, a multiple of the peak learning rate")],
    **dict.fromkeys(("scheduler.warmup", "scheduler.decay"), Annotated[float, at_least(0, "0 or more")]),
    "logger.wandb.mode": Annotated[str, one_of("auto", "online", "offline", "disabled")],
    **dict.fromkeys(("logger.wandb.init_timeout", "logger.wandb.finish_timeout"), Annotated[float, above_zero()]),
}
"""Of settings that not every option of a group has, by key, where lx's own classes read them."""

BUILT = ("tokenizer", "task", "optimizer", "scheduler", "model")
"""The groups from each of which one object is built."""
