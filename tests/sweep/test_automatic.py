"""``sweep=auto``: a search within a time, with nothing to name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from lx.config.session import hydra_session
from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.predictions import read_predictions
from lx.sweep.limits import prediction_bytes
from lx.sweep.members import members
from lx.sweep.plan import make_plan
from lx.sweep.space import Choices, Interval
from support.commands import lx
from support.corpus import write_splits
from support.run_files import result
from support.sweeps import leaderboard, sweep


@pytest.fixture(scope="module")
def hydra() -> Iterator[Any]:
    with hydra_session() as session:
        yield session


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_splits(tmp_path_factory.mktemp("auto"))


def command(folder: Path, *overrides: str) -> list[str]:
    splits = [f"data.{name}={folder / name}.jsonl" for name in ("train", "validation", "test")]
    return ["sweep=auto", "data=files", *splits, f"data.cache_dir={folder / 'cache'}", "hardware=cpu", *overrides]


def test_the_search_begins_at_what_the_data_chooses(folder: Path, hydra: Any) -> None:
    plan = make_plan(hydra, command(folder), None)
    axes = {axis.key: axis for axis in plan.axes}
    lr, epochs, batch_size = axes["optimizer.lr"], axes["trainer.max_epochs"], axes["data.batch_size"]
    assert isinstance(lr, Interval) and isinstance(epochs, Interval) and isinstance(batch_size, Interval)
    assert epochs.integer and lr.log and not lr.integer
    assert plan.defaults["trainer.max_epochs"] == 30 and plan.defaults["optimizer.lr"] == 1e-3
    assert (epochs.low, epochs.high) == (15, 60)
    assert (batch_size.low, batch_size.high) == (16, plan.defaults["data.batch_size"]) == (16, 32)
    assert plan.defaults["tokenizer"] == plan.defaults["model.dim"] == "auto"
    assert plan.defaults.keys() == axes.keys(), "the first trial is what the data chooses, in everything"


@pytest.mark.parametrize(
    ("overrides", "gone"),
    [
        (["optimizer.lr=1e-3"], {"optimizer.lr"}),
        (["trainer.max_steps=20"], {"trainer.max_epochs"}),
        (["model.dim=32", "tokenizer=char"], {"model.dim", "tokenizer"}),
        (["model=bag"], {"model.num_layers", "model.conv_width", "model.token_dropout"}),
        (["recipe=plain"], {"model.num_layers", "tokenizer"}),
    ],
)
def test_what_is_given_narrows_the_search(folder: Path, hydra: Any, overrides: list[str], gone: set[str]) -> None:
    everything = {axis.key for axis in make_plan(hydra, command(folder), None).axes}
    left = {axis.key for axis in make_plan(hydra, command(folder, *overrides), None).axes}
    assert gone <= everything and not gone & left and left


def test_values_that_are_given_take_the_place_of_its_own(folder: Path, hydra: Any) -> None:
    plan = make_plan(hydra, command(folder, "model.dim=32,64", "optimizer.lr=1e-3,2e-3"), None)
    axes = {axis.key: axis for axis in plan.axes}
    assert axes["model.dim"] == Choices("model.dim", ("32", "64"))
    assert axes["optimizer.lr"] == Choices("optimizer.lr", ("0.001", "0.002"))


def test_settings_that_make_no_sense(folder: Path, hydra: Any) -> None:
    for override, says in (
        ("sweep.budget=null", r"needs a time: sweep\.budget=10m"),
        ("sweep.max_latency=-1", r"sweep\.max_latency must be"),
        ("sweep.max_bytes=0", r"sweep\.max_bytes must be"),
    ):
        with pytest.raises(LxError, match=says):
            make_plan(hydra, command(folder, override), None)


SMALL = ["model.num_layers=1", "model.dim=8,16", "model.num_heads=2", "model.num_members=1", "model/expert=none"]
SMALL += ["tokenizer=word", "trainer.max_epochs=2", "logger=none"]


@pytest.mark.slow
def test_a_search_keeps_to_its_time_and_its_best_runs_predict_together(folder: Path) -> None:
    done = lx(folder, "train", "-m", *command(folder, *SMALL, "sweep.n_trials=2", "sweep.budget=5m", "sweep.dir=timed"))
    assert done.returncode == 0, done.stderr
    began = (folder / "timed" / "0" / "environment.json").stat().st_mtime
    ended = max(path.stat().st_mtime for path in (folder / "timed").rglob("result.json"))
    assert ended - began < 300 + 10, "the time, and a step and a save"
    rows = leaderboard(folder / "timed")
    assert len(rows) == 2
    first = yaml.safe_load((folder / "timed" / "0" / "config.yaml").read_text())
    assert first["optimizer"]["lr"] == 1e-3 and first["trainer"]["max_minutes"] < 5
    top = json.loads((folder / "timed" / "sweep.json").read_text())["top"]
    assert 1 <= top <= 5 and "lx predict timed" in done.stderr
    runs = members(folder / "timed")
    assert len(runs) == top
    kept = [read_predictions(RunDirectory(run)).splits["validation"] for run in runs]
    correct = np.mean([split.scores for split in kept], axis=0).argmax(axis=1) == kept[0].labels
    assert correct.mean() >= max(float(row["val/accuracy"]) for row in rows if row["state"] == "finished")
    evaluated = lx(folder, "eval", "timed", "hardware=cpu")
    assert evaluated.returncode == 0, evaluated.stderr


@pytest.mark.slow
def test_trials_beyond_a_limit_are_infeasible_in_any_sweep(folder: Path) -> None:
    limits = ["sweep.max_bytes=120000", "sweep.max_latency=100000"]
    done = lx(folder, *sweep("limited", "model.dim=8,64", "trainer.max_epochs=1", *limits))
    assert done.returncode == 0, done.stderr
    small, large = sorted(leaderboard(folder / "limited"), key=lambda row: int(row["model.dim"]))
    sizes = [prediction_bytes(RunDirectory(folder / row["run_dir"])) for row in (small, large)]
    assert sizes[0] < 120_000 < sizes[1]
    assert (small["state"], large["state"]) == ("finished", "infeasible")
    assert large["reason"] == f"{sizes[1]:,} bytes are more than sweep.max_bytes=120000"
    assert result(folder / small["run_dir"])["latency"] > 0
