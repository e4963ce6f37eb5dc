"""``trainer.max_minutes``."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
import yaml

import lx
from lx.errors import LxError
from lx.launch.local import prepare_run
from lx.run.directory import RunDirectory
from lx.training import time_budget
from lx.training.train import train_in
from support.run_files import assert_same_weights, has_finished
from support.tiny_run import tiny, train_tiny
from support.waiting import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def weights(run: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["weights"]
    return tensors


def max_steps(run: Path) -> int:
    steps: int = yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_steps"]
    return steps


@pytest.mark.slow
def test_a_schedule_is_shortened_to_the_time_and_trains_as_if_its_steps_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timing leaves no trace in the weights, and the plan is a number of steps like any other."""
    monkeypatch.setattr(time_budget, "_FIRST_STEPS", 5)
    monkeypatch.setattr(time_budget, "all_reduce_min", lambda count: min(count, 11))
    result = train_tiny(tmp_path, "trainer.max_minutes=1", "trainer.max_epochs=1000000")
    assert result.steps == max_steps(tmp_path / "run") == 11

    more = ["trainer.max_minutes=1", "trainer.max_epochs=1000000", "resume=true"]
    prepare_run(lx.compose(tiny(tmp_path, *more)), [])  # the same command keeps the plan
    assert yaml.safe_load((tmp_path / "run" / "resume.yaml").read_text())["trainer"]["max_steps"] == 11

    given = ["trainer.max_steps=11", f"run_dir={tmp_path / 'given'}"]
    lx.train(lx.compose(tiny(tmp_path, *given)))
    found, expected = weights(tmp_path / "run"), weights(tmp_path / "given")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_with_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, given = tmp_path / "run", tmp_path / "given"
    settings = ["trainer.save_every_n_steps=3", "trainer.check_val_every_n_epoch=10"]
    train_tiny(tmp_path, "trainer.max_steps=150", f"run_dir={given}", *settings)  # and fill the cache
    monkeypatch.setattr(time_budget, "all_reduce_min", lambda count: min(count, 150))
    budget = ["trainer.max_minutes=60", "trainer.max_epochs=1000000", *settings]
    process = multiprocessing.get_context("fork").Process(target=train_tiny, args=(tmp_path, *budget))
    process.start()
    wait_until((run / "checkpoints" / "previous.ckpt").exists, "it has saved twice")
    process.kill()
    process.join()
    assert not has_finished(run) and max_steps(run) == 150
    assert train_in(RunDirectory(run)).steps == max_steps(run) == 150
    assert "going on after step" in (run / "log.txt").read_text()
    assert_same_weights(run, given)


@pytest.mark.parametrize("calibrate", [True, False])  # metrics that keep scores, or count
def test_a_run_that_is_short_enough_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calibrate: bool
) -> None:
    monkeypatch.setattr(time_budget, "_FIRST_STEPS", 5)
    assert train_tiny(tmp_path, "trainer.max_minutes=60", f"task.calibrate={calibrate}").epochs == 2
    assert max_steps(tmp_path / "run") is None


def test_a_run_that_goes_on_is_not_shortened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even on a machine that is so slow that the time would have been enough for a step."""
    monkeypatch.setattr(time_budget, "_FIRST_STEPS", 5)
    train_tiny(tmp_path, "trainer.max_minutes=60", "trainer.max_epochs=1")
    monkeypatch.setattr(time_budget, "all_reduce_min", lambda count: min(count, 1))
    assert train_tiny(tmp_path, "trainer.max_minutes=60", "trainer.max_epochs=2", "resume=true").epochs == 2


def test_too_short_a_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_budget, "_FIRST_STEPS", 5)
    with pytest.raises(LxError, match=r"trainer\.max_minutes=0\.0001: reading the data"):
        train_tiny(tmp_path, "trainer.max_minutes=0.0001")
    assert not (tmp_path / "run").exists()
