"""What a process computes on; GPUs are pretended."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_info

import lx
from lx.distributed.rank_info import RankInfo
from lx.errors import LxError
from lx.launch.local import prepare_run
from lx.launch.torchrun import train_on_ranks
from lx.run.directory import RunDirectory
from lx.system.hardware import resolve
from lx.system.private_api import silence_device_lines
from lx.training.run_length import RunLength
from lx.training.trainer import build_trainer


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Two GPUs that only answer questions."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda *device: "a GPU")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda *device: (9, 0))
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    monkeypatch.setattr("lightning.pytorch.utilities.rank_zero_only.rank", 0)  # a Trainer of another rank sets it
    threads = torch.get_num_threads()
    yield monkeypatch
    torch.set_num_threads(threads)
    torch.backends.cuda.enable_cudnn_sdp(True)


def test_a_gpu_computes_attention_without_cudnn(gpus: pytest.MonkeyPatch) -> None:
    hardware = resolve()
    assert (hardware.device, hardware.precision) == (torch.device("cuda"), "bf16-mixed")
    assert not torch.backends.cuda.cudnn_sdp_enabled()


def test_a_rank_has_the_gpu_of_its_number(gpus: pytest.MonkeyPatch) -> None:
    assert [resolve("gpu", local_rank=rank, local_world_size=2).index for rank in range(2)] == [0, 1]


def test_a_rank_that_sees_one_gpu_alone_has_that(gpus: pytest.MonkeyPatch) -> None:
    """As under srun with --gpus-per-task=1; Lightning is told the same device."""
    gpus.setattr("torch.cuda.device_count", lambda: 1)
    hardware = resolve("gpu", "32-true", local_rank=3, local_world_size=4)
    assert hardware.device == torch.device("cuda", 0)
    for name, value in {"RANK": 7, "LOCAL_RANK": 3, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "GROUP_RANK": 1}.items():
        gpus.setenv(name, str(value))
    cfg = lx.compose(["hardware=ddp"])
    trainer = build_trainer(cfg, hardware, RunLength(1, 1, 1), [], [], RankInfo(7, 8, 3, 4))
    assert trainer.strategy.root_device == hardware.device
    assert (trainer.global_rank, trainer.world_size) == (7, 8)


@pytest.mark.parametrize("kind", ["auto", "gpu"])
def test_more_processes_than_gpus(kind: str, gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(LxError, match=r"hardware\.devices=3: torch finds 2 GPUs on this machine; give fewer, or"):
        resolve(kind, local_rank=0, local_world_size=3)


def test_more_devices_than_gpus_start_nothing(gpus: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The launcher refuses, and the name of the run is free again."""
    run = prepare_run(lx.compose(["hardware=ddp", "hardware.devices=4", f"run_dir={tmp_path}/run"]), [])
    with pytest.raises(LxError, match=r"hardware\.devices=4: torch finds 2 GPUs"):
        train_on_ranks(RunDirectory(run.path))
    assert not run.path.exists()


def test_lightning_says_nothing_of_devices(caplog: pytest.LogCaptureFixture) -> None:
    silence_device_lines()
    for name in ("lightning.pytorch.accelerators.cuda", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).addHandler(caplog.handler)
    logging.getLogger("lightning.pytorch.accelerators.cuda").info("LOCAL_RANK: 0 - CUDA_VISIBLE_DEVICES: [0]")
    rank_zero_info("you should set `torch.set_float32_matmul_precision('medium' | 'high')`")
    rank_zero_info("something else")
    assert set(caplog.messages) == {"something else"}
