"""The types of the settings that no constructor's signature declares.

A value in the composed config must have the type written here, or else the type of the default that it overrides.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Objective:
    """What the best checkpoint, early stopping and sweeps look at."""

    metric: str
    mode: str


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

    batch_size: int
    max_length: int
    validation_fraction: float
    split_seed: int
    on_empty: str
    cache_dir: str | None


@dataclass(frozen=True)
class TrainerSettings:
    """The keys of ``trainer``."""

    max_epochs: int
    max_steps: int | None
    gradient_clip_val: float | None
    ema_decay: float | None
    early_stopping_patience: int | None
    check_val_every_n_epoch: int
    val_check_interval: int | float | None
    log_every_n_steps: int
    limit_train_batches: int | None
    limit_eval_batches: int | None
    save_every_n_steps: int | None
    save_every_n_minutes: float | None
    keep_best: int
    on_nan: str
    deterministic: bool


@dataclass(frozen=True)
class HardwareSettings:
    """The keys of ``hardware``."""

    accelerator: str
    devices: int | str
    num_nodes: int
    rdzv_endpoint: str | None
    strategy: str
    precision: str
    micro_batch: int | str | None
    compile: bool | str
    pad_multiple: int | str
    num_workers: int
    threads: int | None


@dataclass(frozen=True)
class SlurmSettings:
    """The keys that ``hardware=slurm`` adds."""

    submit: str
    partition: str | None
    account: str | None
    qos: str | None
    time: int
    grace: int
    cpus_per_task: int | None
    mem: int | str | None
    gpus: int | str | None
    constraint: str | None
    wait: bool


@dataclass(frozen=True)
class Settings:
    """The keys at the top level."""

    name: str | None
    run_dir: str | None
    seed: int
    launch: str
    resume: bool
    objective: Objective
    data: DataSettings
    trainer: TrainerSettings
    hardware: HardwareSettings
