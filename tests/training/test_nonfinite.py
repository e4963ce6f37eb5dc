"""What is not a number any more ends a run with a message that helps, or costs one update."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from lx.data.batches import Batch, GlobalBatch
from lx.errors import TrainingError
from lx.run.checkpoint import is_intact, read_step
from lx.run.directory import RunDirectory
from lx.training.module import TextClassifier
from lx.training.nonfinite import NonFiniteGuard
from support.run_files import rows
from support.tiny_run import train_tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def batch(*rows: list[int]) -> GlobalBatch:
    """A global batch of which only the rows matter."""
    nothing = torch.zeros(0)
    parts = [Batch(nothing, nothing, nothing, torch.tensor(part, dtype=torch.int64), None, 0) for part in rows]
    return GlobalBatch(parts, sum(map(len, rows)), 0)


def check(guard: NonFiniteGuard, loss: float, norm: float | None = None, losses: Any = (), rows: Any = ()) -> bool:
    outputs = {"loss": torch.tensor(loss)} | ({} if norm is None else {"grad_norm": torch.tensor(norm)})
    trainer: Any = SimpleNamespace(global_step=41, optimizers=[SimpleNamespace(param_groups=[{"lr": 0.003}])])
    return guard.check(outputs, batch(*rows), [torch.tensor(part) for part in losses], trainer)


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_finite_steps_pass(on_nan: str) -> None:
    guard = NonFiniteGuard(on_nan)
    assert check(guard, 1e30) and check(guard, 0.0, 1e30)
    guard.flush()
    assert guard.skipped == 0


def test_a_stop_names_step_rate_and_the_examples_of_that_loss() -> None:
    losses, rows = [[1.0, math.nan], [2.0, math.inf]], [[7, 131], [5, 17]]
    with pytest.raises(TrainingError) as stopped:
        check(NonFiniteGuard("stop"), math.nan, 3.5, losses, rows)
    assert str(stopped.value).startswith(
        "step 41: loss nan, gradient norm 3.5, at learning rate 0.003; examples of that loss (rows of the training "
        "split, from 0): 17, 131. "
    )
    for advice in ("optimizer.lr", "hardware.precision=32-true", "trainer.on_nan=skip"):
        assert advice in str(stopped.value)


def test_where_no_loss_is_to_blame_the_whole_batch_is_named() -> None:
    rows = [list(range(12))]
    with pytest.raises(TrainingError) as stopped:
        check(NonFiniteGuard("stop"), 0.5, math.inf, [[1.0] * 12], rows)
    assert "loss 0.5, gradient norm inf" in str(stopped.value)
    assert "the loss of each example is finite; examples of the batch" in str(stopped.value)
    assert ": 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (12 in all). " in str(stopped.value)


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, None), (math.inf, 1.0), (1.0, math.nan), (-math.inf, math.inf)])
def test_a_skip_is_counted(loss: float, norm: float | None, caplog: pytest.LogCaptureFixture) -> None:
    guard = NonFiniteGuard("skip")
    assert [check(guard, loss, norm), check(guard, 1.0, norm and 1.0), check(guard, loss, norm)] == [
        False,
        True,
        False,
    ]
    assert guard.skipped == 2
    assert caplog.messages[-1] == "step 41: the loss is not finite: update skipped, 2 so far"
    guard.flush()


def test_the_count_of_skips_is_recorded() -> None:
    guard = NonFiniteGuard("skip")
    outputs = {"loss": torch.tensor(math.nan)}
    trainer: Any = SimpleNamespace(global_step=3, optimizers=[SimpleNamespace(param_groups=[{"lr": 1.0}])])
    guard.check(outputs, batch(), [], trainer)
    assert int(outputs["skipped_updates"]) == 1


def test_on_a_gpu_only_the_step_before_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of a step are copied while the next is queued: waiting for it would leave the GPU idle."""
    copies = [Mock() for _ in range(3)]
    coming = iter(copies)
    monkeypatch.setattr("lx.training.nonfinite._copy_to_cpu", lambda finite: (finite, next(coming)))
    guard = NonFiniteGuard("stop")
    check(guard, 1.0)
    check(guard, math.nan, losses=[[math.nan]], rows=[[7]])
    assert [copy.synchronize.called for copy in copies] == [True, False, False]
    with pytest.raises(TrainingError, match=r"step 41: loss nan, .*: 7\. "):
        check(guard, 1.0)
    assert [copy.synchronize.called for copy in copies] == [True, True, False]


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let the logits of some steps be no numbers."""
    forward = TextClassifier.forward

    def poisoned(self: TextClassifier, batch: Batch) -> Tensor:
        logits = forward(self, batch)
        return logits * math.nan if self.training and self.trainer.global_step in steps else logits

    monkeypatch.setattr(TextClassifier, "forward", poisoned)


def test_a_stopped_run_keeps_its_last_good_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 8)
    with pytest.raises(
        TrainingError, match=r"step 8: loss nan, gradient norm nan, at learning rate .*; examples of that"
    ):
        train_tiny(tmp_path, "trainer.save_every_n_steps=4")
    run = RunDirectory(tmp_path / "run")
    assert is_intact(run.last) and read_step(run.last) == 8, "before the step that failed"
    weights = torch.load(run.last)["state_dict"].values()
    assert weights and all(weight.isfinite().all() for weight in weights)
    result = run.read_result()
    assert result.status == "failed" and result.error is not None and "step 8: loss nan" in result.error


def test_a_run_that_fails_before_its_first_state_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, 1)
    with pytest.raises(TrainingError, match="step 1: loss nan"):
        train_tiny(tmp_path, "logger=csv", "trainer.log_every_n_steps=1")
    run = RunDirectory(tmp_path / "run")
    assert run.read_result().status == "failed"
    assert run.metrics.read_text().count("\n") == 2, "the header and the step that went well"


def test_too_high_a_rate_ends_a_run(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d+: loss nan|step \d+: loss inf"):
        train_tiny(
            tmp_path, "optimizer=sgd", "optimizer.lr=1e38", "scheduler=constant", "trainer.gradient_clip_val=null"
        )


def test_a_skip_changes_neither_weights_nor_optimizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And the steps are counted on: the state after the skipped step is that of the step before, but for the count."""
    poison(monkeypatch, 4, 9)
    caplog.set_level(logging.INFO, logger="lx")
    overrides = ["trainer.on_nan=skip", "trainer.save_every_n_steps=1", "logger=csv", "trainer.log_every_n_steps=1"]
    states: dict[int, Any] = {}
    write = "lx.training.callbacks.checkpoint.write_training_state"
    monkeypatch.setattr(write, lambda run, state: states.update({state["global_step"]: copied(state)}))
    result = train_tiny(tmp_path, *overrides)
    assert (result.status, result.steps) == ("finished", 12)
    for step in (4, 9):
        before, after = states[step], states[step + 1]
        assert before["state_dict"] == after["state_dict"]
        assert before["optimizer_states"][0]["state"] == after["optimizer_states"][0]["state"]
    assert states[5]["state_dict"] != states[6]["state_dict"]
    assert [states[step]["skipped_updates"] for step in (4, 5, 9, 10, 12)] == [0, 1, 1, 2, 2]
    logged = {int(row["step"]): row for row in rows(tmp_path / "run")}
    assert sorted(logged) == list(range(1, 13))
    assert [logged[step]["skipped_updates"] for step in (4, 5, 10)] == ["0.0", "1.0", "2.0"]
    assert math.isnan(float(logged[5]["train/loss"])) and math.isfinite(float(logged[6]["train/loss"]))


def copied(value: Any) -> Any:
    """Containers with tensors as bytes."""
    if isinstance(value, Tensor):
        return value.numpy().tobytes()
    if isinstance(value, dict):
        return {name: copied(part) for name, part in value.items()}
    return [copied(part) for part in value] if isinstance(value, list | tuple) else value
