"""Regression and multi-label runs: interrupted, on two ranks, and in W&B's record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import assert_done
from support.forked import fork, train
from support.ranks import interrupt, train_on_ranks, work
from support.run_files import assert_same_weights, losses, result
from support.task_data import TASK_SETTINGS, TASKS, write

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
SETTINGS = ["trainer.max_epochs=4", "optimizer.lr=0.01", "data.text_pair=pair"]


@pytest.fixture(scope="module", params=TASKS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Settings, and a run of one process without interruption."""
    folder = write(tmp_path_factory.mktemp("whole"), request.param)
    settings = [*TASK_SETTINGS[request.param], *SETTINGS]
    assert_done(train(folder, "whole", *settings, env={"WANDB_MODE": "disabled"}))
    return settings, folder


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_end(whole: tuple[list[str], Path]) -> None:
    settings, folder = whole
    interrupt(folder, "stopped", 1, *settings)
    assert 0 < len(losses(folder / "stopped")) < 28
    work(folder, "stopped")
    assert_same_weights(folder / "stopped", folder / "whole")
    for name in ("metrics", "objective", "per_class"):
        assert result(folder / "stopped").get(name) == result(folder / "whole").get(name)


@pytest.mark.distributed
def test_two_ranks_measure_exactly_what_one_process_measures(whole: tuple[list[str], Path]) -> None:
    settings, folder = whole
    train_on_ranks(folder, "ranks", 2, *settings)
    alone, of_ranks = losses(folder / "whole"), losses(folder / "ranks")
    assert [of_ranks[step] for step in alone] == pytest.approx(list(alone.values()), rel=1e-5)
    assert_done(fork(folder, "eval", "ranks", "hardware=cpu").wait())
    of_one = json.loads((folder / "ranks" / "eval.json").read_text())
    recorded = result(folder / "ranks")
    assert {name: recorded["metrics"][name] for name in of_one["metrics"]} == of_one["metrics"]
    assert recorded.get("per_class") == of_one.get("per_class")
    interrupt(folder, "stopped-ranks", 2, *settings)
    work(folder, "stopped-ranks", 2)
    assert_same_weights(folder / "stopped-ranks", folder / "ranks")


@pytest.mark.slow
def test_the_wandb_record_has_the_metrics_and_labels(whole: tuple[list[str], Path]) -> None:
    settings, folder = whole
    assert_done(train(folder, "tracked", *settings, "logger=wandb", env={"WANDB_MODE": "offline"}))
    (record,) = (folder / "tracked").glob("wandb/offline-run-*/*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(record)]
    summary = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["summary"]
    for name, value in result(folder / "whole")["metrics"].items():
        assert summary[name] == pytest.approx(value), name
    tables = [path.name for path in record.parent.glob("files/media/table/**/*.table.json")]
    kinds = {name.partition("_")[0] for name in tables} - {"mistakes"}
    assert kinds == ({"labels", "reliability"} if "task=multilabel" in settings else set())
