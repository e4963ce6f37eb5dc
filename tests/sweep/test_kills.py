"""Sweeps that are killed again and again end as undisturbed ones do, whatever they choose by."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import lx
from support.sweeps import kill_and_resume, leaderboard, losses, sweep

pytestmark = pytest.mark.slow

BY_LOSS = ["objective.metric=val/loss", "objective.mode=min", "trainer.max_epochs=1"]
SWEEPS = {
    "confirm": ["optimizer.lr=0.03,0.0001,0.01", "seed=0", "sweep.confirm=2", "sweep.confirm_seeds=2"],
    "race": ["optimizer.lr=0.03,0.0001", "sweep.seeds=4", "sweep.race=true"],
    "objectives": [
        *["sweep=tpe", "sweep.n_trials=4", "optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.dim=8,16"],
        "sweep.objectives=[parameters:min,val/accuracy:max]",
    ],
}
DIFFERENT = ("seconds", "run_dir")


@pytest.mark.parametrize("kind", SWEEPS)
def test_a_killed_sweep_chooses_as_an_undisturbed_one(kind: str, folder: Path) -> None:
    settings = [*BY_LOSS, *SWEEPS[kind], "sweep.threads=1"]
    done = lx(folder, *sweep(kind, *settings))
    assert done.returncode == 0, done.stderr
    kill_and_resume(folder, f"{kind}-killed", *settings, times=2, seconds=10)
    assert losses(folder / f"{kind}-killed") == losses(folder / kind)
    undisturbed, killed = (
        [{name: value for name, value in row.items() if name not in DIFFERENT} for row in leaderboard(folder / name)]
        for name in (kind, f"{kind}-killed")
    )
    assert killed == undisturbed


def test_trials_are_ranked_by_how_fast_they_predict_where_that_is_an_objective(folder: Path) -> None:
    done = lx(folder, *sweep("latency", *BY_LOSS, "model.num_layers=1,24", "sweep.objectives=[latency:min]"))
    assert done.returncode == 0, done.stderr
    fast, slow = sorted(leaderboard(folder / "latency"), key=lambda row: int(row["model.num_layers"]))
    assert 0 < float(fast["latency"]) < float(slow["latency"])
    assert fast["front"] == "True"
    assert "latency" in done.stdout
