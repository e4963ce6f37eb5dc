"""Collectives between ranks, and the same weights wherever the ranks are."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.distributed.process_group import (
    DelayedMax,
    all_gather,
    all_reduce_min,
    all_reduce_sum,
    first_on_each_node,
    process_group,
    scatter,
)
from lx.distributed.rank_info import RankInfo
from lx.distributed.watch import PeerWatch
from support.commands import start, training
from support.ranks import assert_all_done, free_port, ranks, train_on_ranks
from support.run_files import assert_same_weights
from support.waiting import wait_until

pytestmark = pytest.mark.distributed


def _rank(work: Callable[[RankInfo, Path], Any], rank_info: RankInfo, folder: Path) -> None:
    """Join the others, and save what the work returns."""
    torch.set_num_threads(1)
    with process_group(rank_info, torch.device("cpu"), folder):
        torch.save(work(rank_info, folder), folder / f"{rank_info.rank}.pt")


def on_ranks(folder: Path, world_size: int, work: Callable[[RankInfo, Path], Any]) -> list[Any]:
    """What a function returns on each rank."""
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_rank, args=(work, RankInfo(rank, world_size, rank, world_size), folder))
        for rank in range(world_size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


def _collectives(rank_info: RankInfo, folder: Path) -> list[Any]:
    rank = rank_info.rank
    total = all_reduce_sum(torch.tensor([rank + 1.0, 0.5], dtype=torch.float64)).tolist()
    parts = [f"for {other}" for other in range(rank_info.world_size)] if rank_info.is_first else []
    return [total, all_reduce_min(7 - rank), all_gather(rank * 10), scatter(parts)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_collectives(world_size: int, tmp_path: Path) -> None:
    total = [world_size * (world_size + 1) / 2, world_size / 2]
    gathered = [rank * 10 for rank in range(world_size)]
    expected = [[total, 8 - world_size, gathered, f"for {rank}"] for rank in range(world_size)]
    assert on_ranks(tmp_path, world_size, _collectives) == expected


def _delayed(rank_info: RankInfo, folder: Path) -> list[int]:
    largest = DelayedMax()
    return [*[largest(value) for value in ([3, 0, 5] if rank_info.is_first else [1, 2, 0])], largest.wait()]


def test_a_delayed_maximum_answers_one_call_late(tmp_path: Path) -> None:
    assert on_ranks(tmp_path, 2, _delayed) == [[0, 3, 2, 5]] * 2


def _wait_inside_a_library(rank_info: RankInfo, folder: Path) -> None:
    """Wait as in NCCL, where a rank does not notice the end of another."""
    PeerWatch(rank_info.rank, rank_info.world_size, timedelta(hours=1))
    (folder / f"{rank_info.rank}.waits").touch()
    time.sleep(600)


@pytest.mark.parametrize("dies", [0, 1, 2])
def test_ranks_end_with_another_though_they_wait(dies: int, tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    processes = [
        context.Process(target=_rank, args=(_wait_inside_a_library, RankInfo(rank, 3, rank, 3), tmp_path))
        for rank in range(3)
    ]
    for process in processes:
        process.start()
    wait_until(lambda: len(list(tmp_path.glob("*.waits"))) == 3, "ranks")
    processes[dies].kill()
    died = time.monotonic()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [-9 if rank == dies else 1 for rank in range(3)]
    assert time.monotonic() - died < 20


def _stop_watching(rank_info: RankInfo, folder: Path) -> str:
    watch = PeerWatch(rank_info.rank, rank_info.world_size, timedelta(hours=1))
    all_gather(rank_info.rank)
    watch.stop()
    return "done"


def test_a_watch_that_is_stopped_ends_nothing(tmp_path: Path) -> None:
    assert on_ranks(tmp_path, 3, _stop_watching) == ["done"] * 3


def _fill(rank_info: RankInfo, folder: Path) -> bool:
    """Whether this rank has found the cache filled."""
    cache, found = folder / "cache", []

    def work() -> None:
        found.append(cache.exists())
        cache.touch()

    first_on_each_node(rank_info, work)
    return found[0]


def test_the_first_rank_fills_a_cache_for_the_others(tmp_path: Path) -> None:
    assert on_ranks(tmp_path, 3, _fill) == [False, True, True]


@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["hardware.precision=bf16-mixed", "model.dim=64", "model.num_layers=2"],
        ["hardware.precision=bf16-mixed", "model.dim=64", "model.num_layers=2", "hardware.micro_batch=2"],
    ],
)
def test_one_machine_learns_what_two_machines_learn(settings: list[str], folder: Path, tmp_path: Path) -> None:
    steps = ["trainer.max_steps=6", *settings]
    one, two = tmp_path / "one-machine", tmp_path / "two-machines"
    train_on_ranks(folder, str(one), 2, *steps)
    more = ["hardware.num_nodes=2", f"hardware.rdzv_endpoint=127.0.0.1:{free_port()}"]
    assert_all_done(*[start(folder, training(two, *ranks(1, *more), *steps)) for _ in range(2)])
    assert_same_weights(one, two)
