"""One rank that trains as several do on GPUs: collectives by NCCL, DDP and FSDP around the network."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy

from lx.distributed.fsdp import ShardedStrategy
from lx.distributed.process_group import barrier
from lx.training import trainer
from support.ranks import free_port
from support.run_files import losses
from support.tiny_run import train_tiny

STRATEGIES = {
    "ddp": lambda: DDPStrategy(find_unused_parameters=True, gradient_as_bucket_view=True, broadcast_buffers=False),
    "fsdp": lambda: ShardedStrategy(1),
}


def _train(folder: Path, strategy: str, overrides: list[str], port: int) -> None:
    """Train in a process group of one rank, around which lx would make none."""
    on_gpu = "hardware.accelerator=cuda" in overrides
    world = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "GROUP_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    os.environ.update(world, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    trainer._strategy = lambda *_: STRATEGIES[strategy]()  # type: ignore[assignment]
    trainer.LightningEnvironment = trainer.OneDeviceEnvironment  # type: ignore[attr-defined, misc]
    train_tiny(folder, *overrides)
    barrier()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_rank_learns_what_one_process_learns(
    strategy: str, precision: str, tmp_path: Path, device: torch.device
) -> None:
    """With an average of the weights, and a last step without validation."""
    sizes = ["model.dim=64", "model.num_layers=2", "model.dropout=0", "model.token_dropout=0", "optimizer.lr=0.003"]
    length = ["trainer.max_steps=27", "trainer.ema_decay=0.9", "logger=csv", "trainer.log_every_n_steps=1"]
    more = [f"hardware.accelerator={device.type}", f"hardware.precision={precision}", *sizes, *length]
    train_tiny(tmp_path, *more)
    ranked = [*more, f"run_dir={tmp_path / strategy}", f"hardware.strategy={strategy}"]
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train, args=(tmp_path, strategy, ranked, free_port()))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    expected = list(losses(tmp_path / "run").values())
    rel = 1e-4 if precision == "32-true" else 2e-2
    assert list(losses(tmp_path / strategy).values()) == pytest.approx(expected, rel=rel)
