"""A run goes on with another number of ranks, or with weights cut up between them, as if nothing had happened."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from support.commands import assert_done, start
from support.forked import fork, train
from support.ranks import interrupt, train_on_ranks, work
from support.run_files import assert_same_weights, losses, result, rows

pytestmark = pytest.mark.distributed

SETTINGS = ["trainer.max_epochs=8", "optimizer.lr=0.01", "trainer.ema_decay=0.9"]
SHARDED = "hardware.strategy=fsdp"


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """One process without interruption."""
    assert_done(train(folder, "whole", *SETTINGS))
    return folder / "whole"


@pytest.fixture(scope="module")
def sharded(folder: Path) -> Path:
    """Two ranks with half of the weights each, without interruption."""
    train_on_ranks(folder, "sharded", 2, *SETTINGS, SHARDED)
    return folder / "sharded"


@pytest.fixture(scope="module")
def half_of_one(folder: Path) -> Path:
    """One process, stopped."""
    interrupt(folder, "half-of-one", 1, *SETTINGS)
    return folder / "half-of-one"


@pytest.fixture(scope="module")
def half_sharded(folder: Path) -> Path:
    """Two ranks with half of the weights each, stopped."""
    interrupt(folder, "half-sharded", 2, *SETTINGS, SHARDED)
    return folder / "half-sharded"


def copied(run: Path, name: str) -> str:
    """A stopped run under another name."""
    assert 0 < len(losses(run)) < 56
    shutil.copytree(run, run.with_name(name))
    return name


def assert_same(found: Path, expected: Path) -> None:
    """The loss of every step, and what evaluation counted."""
    ours, theirs = losses(found), losses(expected)
    assert list(ours) == list(theirs) == list(range(1, 57))
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=1e-5, abs=0), f"step {step}"
    for name, value in result(expected)["metrics"].items():
        assert result(found)["metrics"][name] == pytest.approx(value, rel=1e-5), name


def test_one_process_goes_on_as_two(folder: Path, whole: Path, half_of_one: Path) -> None:
    shutil.rmtree(folder / "widened", ignore_errors=True)
    run = copied(half_of_one, "widened")
    settings = ["hardware=ddp_cpu", "hardware.devices=2", "hardware.precision=32-true"]
    config = folder / run / "config.yaml"
    config.write_text(config.read_text().replace("launch: prepare", "launch: process"))
    assert_done(start(folder, ["resume", run, *settings]).wait())
    assert_same(folder / run, whole)


def test_two_ranks_go_on_as_one(folder: Path, whole: Path) -> None:
    interrupt(folder, "narrowed", 2, *SETTINGS)
    work(folder, "narrowed")
    assert_same(folder / "narrowed", whole)


def test_sharded_weights_learn_the_same(folder: Path, whole: Path, sharded: Path) -> None:
    assert_same(sharded, whole)
    assert_done(fork(folder, "eval", "sharded", "hardware=cpu").wait())
    evaluation = json.loads((sharded / "eval.json").read_text())
    assert evaluation["confusion_matrix"] == result(sharded)["confusion_matrix"]
    for name, value in evaluation["metrics"].items():
        assert value == pytest.approx(result(sharded)["metrics"][name], rel=1e-6), name


def test_sharded_weights_go_on_to_the_same_bits(folder: Path, sharded: Path, half_sharded: Path) -> None:
    run = copied(half_sharded, "sharded-again")
    work(folder, run, 2)
    assert rows(folder / run) == rows(sharded)
    assert_same_weights(folder / run, sharded)


def test_sharded_weights_go_on_whole(folder: Path, whole: Path, half_sharded: Path) -> None:
    run = copied(half_sharded, "made-whole")
    config = folder / run / "config.yaml"
    config.write_text(config.read_text().replace("strategy: fsdp", "strategy: auto"))
    work(folder, run)
    assert_same(folder / run, whole)


def test_whole_weights_go_on_sharded(folder: Path, whole: Path, half_of_one: Path) -> None:
    run = copied(half_of_one, "cut-up")
    assert_done(
        fork(folder, "resume", run, "launch=prepare", "hardware=ddp_cpu", SHARDED, "hardware.precision=32-true").wait()
    )
    work(folder, run, 2)
    assert_same(folder / run, whole)
