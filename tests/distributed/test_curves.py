"""Hardware changes speed, never results: however many processes share the work, the loss curve is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import assert_done, start, training
from support.forked import train
from support.ranks import assert_all_done, free_port, ranks, train_on_ranks
from support.run_files import losses, result

pytestmark = pytest.mark.distributed

EPOCHS = "trainer.max_epochs=2"
HARD = [
    *("task.class_weights=balanced", "task.label_smoothing=0.1", "hardware.precision=64-true"),
    *("model.num_members=2", "model.adversarial=0.3"),
]
COUNTED = ("accuracy", "f1_macro")


def assert_same(found: Path, expected: Path, tolerance: float) -> None:
    """The loss of every step, and what evaluation counted."""
    ours, theirs = losses(found), losses(expected)
    assert list(ours) == list(theirs) == list(range(1, 15))
    for step, loss in theirs.items():
        assert ours[step] == pytest.approx(loss, rel=tolerance, abs=0), f"step {step}"
    ours, theirs = result(found), result(expected)
    for name in (f"{split}/{metric}" for split in ("val", "test") for metric in COUNTED):
        assert ours["metrics"][name] == theirs["metrics"][name]
    assert ours["confusion_matrix"] == theirs["confusion_matrix"]
    for name in ("val/loss", "test/loss"):
        assert ours["metrics"][name] == pytest.approx(theirs["metrics"][name], rel=tolerance, abs=0)


@pytest.fixture(scope="module")
def one(folder: Path) -> Path:
    """One process."""
    assert_done(train(folder, "one", EPOCHS))
    curve = losses(folder / "one")
    assert curve[14] < 0.9 * curve[1]  # it learns something: equal curves are no curves of nothing
    return folder / "one"


@pytest.fixture(scope="module")
def one_hard(folder: Path) -> Path:
    """One process, in float64, with all that enters the loss."""
    assert_done(train(folder, "one-hard", EPOCHS, *HARD))
    return folder / "one-hard"


def test_four_micro_batches(folder: Path, one: Path) -> None:
    assert_done(train(folder, "micro", EPOCHS, "hardware.micro_batch=2"))
    assert_same(folder / "micro", one, 1e-5)


@pytest.mark.parametrize("count", [2, 4])
def test_ranks(count: int, folder: Path, one: Path) -> None:
    train_on_ranks(folder, f"ranks-{count}", count, EPOCHS)
    assert_same(folder / f"ranks-{count}", one, 1e-5)


def test_two_nodes(folder: Path, one: Path) -> None:
    more = ["hardware.num_nodes=2", f"hardware.rdzv_endpoint=127.0.0.1:{free_port()}"]
    command = training("nodes", *ranks(1, *more), EPOCHS)
    assert_all_done(*[start(folder, command) for _ in range(2)])
    assert_same(folder / "nodes", one, 1e-5)


def test_weights_smoothing_and_micro_batches_in_float64(folder: Path, one_hard: Path) -> None:
    assert_done(train(folder, "micro-hard", EPOCHS, *HARD, "hardware.micro_batch=3"))
    assert_same(folder / "micro-hard", one_hard, 1e-10)


@pytest.mark.parametrize("count", [2, 4])
def test_weights_smoothing_and_ranks_in_float64(count: int, folder: Path, one_hard: Path) -> None:
    """A last batch of 2 examples leaves two of four ranks without any."""
    train_on_ranks(folder, f"hard-{count}", count, EPOCHS, *HARD, "hardware.micro_batch=1")
    assert_same(folder / f"hard-{count}", one_hard, 1e-10)
