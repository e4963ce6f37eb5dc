"""Runs of 18 steps that are interrupted in this process, and all that they leave behind."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lx
from lx.launch import local
from lx.run.directory import RunDirectory
from lx.training.module import TextClassifier
from lx.training.train import train_in
from support.run_files import result, rows
from support.tiny_run import tiny

# What the clock and the name of the directory decide.
VOLATILE = ("/elapsed", "/seconds", "/run_dir", "/best_checkpoint")


class InterruptedTrainingError(Exception):
    pass


def prepared(place: Path, name: str, *overrides: str) -> RunDirectory:
    settings = ["logger=csv", "trainer.log_every_n_steps=4", "trainer.save_every_n_steps=2"]
    if not any(override.startswith("trainer.max_steps=") for override in overrides):
        settings.append("trainer.max_epochs=3")
    return local.prepare_run(lx.compose(tiny(place, f"run_dir={place / name}", *settings, *overrides)), [])


def interrupt(run: RunDirectory, hook: str, step: int) -> None:
    """Train until a hook is called after some step, and let it raise."""
    original = getattr(TextClassifier, hook)

    @functools.wraps(original)
    def interrupting(self: TextClassifier, *arguments: Any) -> Any:
        if self.trainer.global_step == step:
            raise InterruptedTrainingError
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextClassifier, hook, interrupting)
        with pytest.raises(InterruptedTrainingError):
            train_in(run)
    assert run.read_result().status == "failed"


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text in nested containers by its name; tensors as bytes."""
    if isinstance(value, dict | list | tuple) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(part, f"{name}/{key}")
    elif isinstance(value, Tensor):
        yield name, (value.dtype, value.shape, value.numpy().tobytes())
    else:
        yield name, value


def outcome(run: RunDirectory) -> dict[str, Any]:
    """All that a run leaves behind."""
    checkpoints = {path.name: torch.load(path) for path in sorted(run.last.parent.glob("*.ckpt"))}
    predictions = {"predictions.arrow": run.predictions.read_bytes(), "mistakes.json": run.mistakes.read_bytes()}
    found = flat({**result(run.path), "metrics.csv": rows(run.path), **checkpoints, **predictions})
    return {name: value for name, value in found if not name.endswith(VOLATILE)}


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert sorted(key for key in {**found, **wanted} if found.get(key, ...) != wanted.get(key, ...)) == []
    assert len(wanted) > 100
