"""Whole runs on a GPU: as on the CPU, without waiting for the device, and to the same bits after an interruption."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import lx
from lx.data.batches import Batch, GlobalBatch
from lx.errors import TrainingError
from lx.training.module import TextClassifier
from support.corpus import write_rows
from support.run_files import assert_same_weights, losses, result
from support.tiny_run import train_tiny
from support.waiting import wait_for_steps

EXACT = ["model.dropout=0", "model.token_dropout=0", "optimizer.lr=0.003"]
LOGGED = ["logger=csv", "trainer.log_every_n_steps=1"]


def settings(device: torch.device, *overrides: str) -> list[str]:
    """Overrides of a run of 54 steps on a network whose sizes the fused kernels take."""
    sizes = ["model.dim=64", "model.num_layers=2", "trainer.max_epochs=9"]
    return [f"hardware.accelerator={device.type}", *sizes, *overrides]


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a script in a process of its own, with the helpers of the tests."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, *arguments]
    output = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=output, stderr=output, text=True, start_new_session=True)


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a process has written to standard output and error, once it has ended well."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output, errors


TRAIN = (
    "import sys, torch, lx; from pathlib import Path; from support.tiny_run import tiny;"
    "lx.train(lx.compose(tiny(Path(sys.argv[1]), *sys.argv[2:])))"
)


@pytest.fixture
def steps_that_must_not_wait(cuda: None, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let torch raise where a training step waits for the device; return the steps that are watched."""
    step, watched = TextClassifier.training_step, []

    def strict(self: TextClassifier, batch: GlobalBatch, batch_idx: int) -> dict[str, Any]:
        if self.trainer.global_step < 5:  # the first load kernels and make the optimizer's state
            return step(self, batch, batch_idx)
        watched.append(self.trainer.global_step)
        torch.cuda.set_sync_debug_mode("error")
        try:
            return step(self, batch, batch_idx)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(TextClassifier, "training_step", strict)
    return watched


def test_the_loss_curve_is_that_of_the_cpu(tmp_path: Path, device: torch.device) -> None:
    train_tiny(tmp_path, *settings(torch.device("cpu"), *EXACT, *LOGGED))
    expected = list(losses(tmp_path / "run").values())
    train_tiny(tmp_path, *settings(device, *EXACT, *LOGGED, f"run_dir={tmp_path / 'device'}"))
    assert len(expected) == 54
    assert list(losses(tmp_path / "device").values()) == pytest.approx(expected, rel=1e-3)


def test_no_step_waits_for_the_device(tmp_path: Path, steps_that_must_not_wait: list[int]) -> None:
    train_tiny(tmp_path, *settings(torch.device("cuda"), "hardware.precision=bf16-mixed"))
    assert steps_that_must_not_wait == list(range(5, 54))


def test_a_loss_that_is_no_number_is_found_a_step_later(
    tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TextClassifier.forward

    def poisoned(self: TextClassifier, batch: Batch) -> Tensor:
        logits = forward(self, batch)
        return logits * math.nan if self.training and self.trainer.global_step == 8 else logits

    monkeypatch.setattr(TextClassifier, "forward", poisoned)
    with pytest.raises(TrainingError, match=r"step 8: loss nan, gradient norm nan, .*; examples of that loss"):
        train_tiny(tmp_path, *settings(device))


def test_micro_batches_are_found_when_memory_runs_out(tmp_path: Path, cuda: None) -> None:
    """With room for 1 GB, in which 48 texts of 512 tokens at 512 features do not fit."""
    large = ["data.batch_size=48", "model.dim=512", "model.num_heads=8", "model.num_layers=4", "data.max_length=512"]
    repeat = ["trainer.max_steps=2", "hardware.precision=32-true", "model/position=alibi"]
    total = torch.cuda.get_device_properties(0).total_memory
    write_rows(tmp_path / "train.jsonl", 96, repeat=60)
    write_rows(tmp_path / "test.jsonl", 18, start=200)
    script = f"import torch; torch.cuda.set_per_process_memory_fraction({1e9 / total}); {TRAIN}"
    _, errors = finished(python(script, str(tmp_path), *settings(torch.device("cuda"), *large, *repeat)))
    assert "memory runs out with 48 examples at a time: hardware.micro_batch=" in errors
    assert (tmp_path / "run" / "micro_batch.json").exists()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, device: torch.device, precision: str) -> None:
    again = ["trainer.deterministic=true", "trainer.save_every_n_steps=4", f"hardware.precision={precision}"]
    train_tiny(tmp_path, *settings(device, *LOGGED, *again))
    run = tmp_path / "killed"
    chosen = [*settings(device, *LOGGED, *again), f"run_dir={run}", "resume=true"]
    with python(TRAIN, str(tmp_path), *chosen) as killed:
        wait_for_steps(run, 14)
        os.killpg(killed.pid, signal.SIGKILL)
    assert "going on after step" in finished(python(TRAIN, str(tmp_path), *chosen))[1]
    assert_same_weights(run, tmp_path / "run")


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "radam", "adafactor", "muon"])
def test_every_optimizer_learns(tmp_path: Path, device: torch.device, optimizer: str) -> None:
    rate = {"sgd": 0.1, "muon": 0.01}.get(optimizer, 0.003)
    train_tiny(tmp_path, *settings(device, *LOGGED, f"optimizer={optimizer}", f"optimizer.lr={rate}"))
    curve = list(losses(tmp_path / "run").values())
    assert curve[-1] < curve[0]


def test_a_compiled_run_learns_the_same_in_few_programs(tmp_path: Path, device: torch.device) -> None:
    """In a process of its own, which counts its programs: one for training and few for the rest, for all lengths."""
    train_tiny(tmp_path, *settings(device, *EXACT, *LOGGED))
    script = f"{TRAIN}; print('programs', torch._dynamo.utils.counters['stats']['unique_graphs'])"
    chosen = settings(device, *EXACT, *LOGGED, "hardware.compile=true", f"run_dir={tmp_path / 'compiled'}")
    output, _ = finished(python(script, str(tmp_path), *chosen))
    assert 1 <= int(output.rpartition("programs ")[2]) <= 7
    expected = list(losses(tmp_path / "run").values())
    assert list(losses(tmp_path / "compiled").values()) == pytest.approx(expected, rel=1e-3)
    assert result(tmp_path / "compiled")["status"] == "finished"


def test_predictions_come_in_order(tmp_path: Path, device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.inference.stream._CHUNK", 100)
    train_tiny(tmp_path, *settings(device))
    texts = [f"{'bread ' * (i % 13)}{i}" for i in range(750)]
    on_cpu = lx.load(tmp_path / "run", accelerator="cpu", precision="32-true").predict(texts)
    on_device = lx.load(tmp_path / "run", accelerator=device.type, precision="32-true").predict(texts)
    assert [prediction.text for prediction in on_device] == texts
    for one, other in zip(on_device, on_cpu, strict=True):
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
