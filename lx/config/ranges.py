"""The values that settings may take, beyond their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Range(NamedTuple):
    """What must hold of a value, and the words that complete "KEY must be ..."."""

    holds: Callable[[Any], bool]
    words: str


def at_least(minimum: int, words: str | None = None) -> Range:
    """A number from ``minimum`` on."""
    return Range(lambda value: value >= minimum, words or f"at least {minimum}")


def above_zero(words: str = "above 0") -> Range:
    """A number above 0."""
    return Range(lambda value: value > 0, words)


def between_zero_and_one(words: str = "between 0 and 1") -> Range:
    """A number between 0 and 1, neither of the two."""
    return Range(lambda value: 0 < value < 1, words)


def one_of(*names: str) -> Range:
    """One of a few words."""
    return Range(lambda value: value in names, f"{', '.join(names[:-1])} or {names[-1]}".removeprefix(" or "))


PROBABILITY = Range(lambda value: 0 <= value < 1, "from 0 up to, but not including, 1")
COUNT_OR_NULL = at_least(1, "at least 1, or null")

# A key that is absent or null is not checked.
RANGES: dict[str, Range] = {
    "seed": Range(lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295"),
    "launch": one_of("process", "inline", "prepare"),
    "objective.mode": one_of("max", "min"),
    "data.batch_size": at_least(1),
    "data.max_length": at_least(4, "at least 4, for a piece of text between its special tokens"),
    "data.validation_fraction": between_zero_and_one(),
    "data.on_empty": one_of("drop", "error"),
    "tokenizer.vocab_size": at_least(5, "at least 5: there are 4 special tokens"),
    "model.dim": at_least(1),
    "model.num_layers": at_least(1),
    "model.num_heads": at_least(1),
    "model.dropout": PROBABILITY,
    "model.token_dropout": PROBABILITY,
    "task.label_smoothing": PROBABILITY,
    "optimizer.lr": above_zero(),
    "optimizer.weight_decay": at_least(0, "0 or more"),
    "trainer.max_epochs": at_least(1),
    "trainer.max_steps": at_least(1),
    "trainer.gradient_clip_val": above_zero("above 0, or null"),
    "trainer.ema_decay": between_zero_and_one("between 0 and 1, or null"),
    "trainer.early_stopping_patience": COUNT_OR_NULL,
    "trainer.check_val_every_n_epoch": at_least(1),
    "trainer.val_check_interval": Range(
        lambda value: 0 < value < 1 or (isinstance(value, int) and value >= 1),
        "a whole number of steps, a share of an epoch between 0 and 1, or null",
    ),
    "trainer.log_every_n_steps": at_least(1),
    "trainer.limit_train_batches": COUNT_OR_NULL,
    "trainer.limit_eval_batches": COUNT_OR_NULL,
    "trainer.save_every_n_steps": COUNT_OR_NULL,
    "trainer.save_every_n_minutes": above_zero("above 0, or null"),
    "trainer.keep_best": at_least(1),
    "trainer.on_nan": one_of("stop", "skip"),
    "hardware.devices": Range(
        lambda value: value == "auto" or (isinstance(value, int) and value >= 1), "at least 1, or auto"
    ),
    "hardware.num_nodes": at_least(1),
    "hardware.strategy": one_of("auto", "ddp", "fsdp"),
    "hardware.micro_batch": Range(
        lambda value: value == "auto" or (isinstance(value, int) and value >= 1), "at least 1, auto or null"
    ),
    "hardware.compile": Range(lambda value: value in (True, False, "auto"), "true, false or auto"),
    "hardware.pad_multiple": Range(
        lambda value: value == "auto" or (isinstance(value, int) and value >= 1), "at least 1, or auto"
    ),
    "hardware.num_workers": at_least(0, "0 or more"),
    "hardware.threads": COUNT_OR_NULL,
    "hardware.submit": one_of("slurm"),
    "hardware.time": at_least(1, "at least 1 minute"),
    "hardware.grace": at_least(1, "at least 1 second"),
    "hardware.cpus_per_task": COUNT_OR_NULL,
    "hardware.mem": Range(lambda value: isinstance(value, str) or value >= 0, "0 or more, or a size such as 32G"),
    "hardware.gpus": Range(
        lambda value: isinstance(value, str) or value >= 1, "at least 1, a type and a number such as a100:4, or null"
    ),
}
