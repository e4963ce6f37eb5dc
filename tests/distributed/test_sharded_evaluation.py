"""Evaluations of sharded weights as Lightning runs them on GPUs: in inference mode, if lx did not forbid it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lx.run.directory import RunDirectory
from support.ranks import free_port, prepare, ranks
from support.run_files import has_finished, result

pytestmark = pytest.mark.distributed


def _train(folder: Path, run: Path, environment: dict[str, str]) -> None:
    """Train one rank, with Lightning told the backend of GPUs where it chooses how to evaluate."""
    from lightning.pytorch.loops import utilities

    from lx.training.train import train_in

    os.chdir(folder)
    os.environ.update(environment)
    torch.set_num_threads(1)
    utilities.dist = SimpleNamespace(get_backend=lambda: "nccl")  # type: ignore[attr-defined]
    train_in(RunDirectory(run))


@pytest.mark.parametrize(
    "settings",
    [
        ["trainer.max_steps=5"],
        ["trainer.max_steps=13", "trainer.ema_decay=0.9", "model.num_members=2", "model.adversarial=0.3"],
    ],
)
def test_weights_are_sharded_again_after_an_evaluation(settings: list[str], folder: Path, tmp_path: Path) -> None:
    """The run does not end with a validation, so there is one after training, then the test; once more when it starts
    again, which trains nothing.
    """
    run = tmp_path / "run"
    prepare(folder, str(run), *ranks(2), "hardware.strategy=fsdp", *settings)
    context = multiprocessing.get_context("forkserver")
    metrics = []
    for _ in range(2):
        world = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
        }
        processes = [
            context.Process(target=_train, args=(folder, run, {**world, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
            for rank in range(2)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
            assert process.exitcode == 0
        assert has_finished(run)
        metrics.append(result(run)["metrics"])
    assert metrics[0] == metrics[1]
