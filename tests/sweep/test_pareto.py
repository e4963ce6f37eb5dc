"""Several objectives."""

from __future__ import annotations

from pathlib import Path

import pytest

from lx.sweep.pareto import pareto_front
from support.commands import lx
from support.run_files import result
from support.sweeps import leaderboard, sweep


def test_the_front_is_what_nothing_else_is_better_than() -> None:
    points = [(1.0, 5.0), (2.0, 5.0), (3.0, 1.0), (2.0, 2.0), (2.0, 2.0), (3.0, 2.0)]
    assert pareto_front(points) == [True, False, True, True, True, False]


@pytest.mark.slow
def test_a_search_with_two_objectives_marks_the_front(folder: Path) -> None:
    search = ["sweep=tpe", "sweep.n_trials=3", "optimizer.lr=0.03,0.0001", "model.dim=8,16", "trainer.max_epochs=1"]
    done = lx(folder, *sweep("front", *search, "sweep.objectives=[parameters:min]"))
    assert done.returncode == 0, done.stderr
    rows = leaderboard(folder / "front")
    points = [(-float(row["val/accuracy"]), float(row["parameters"])) for row in rows]
    assert [row["front"] == "True" for row in rows] == pareto_front(points)
    assert rows[0]["front"] == "True"
    assert {float(row["parameters"]) for row in rows} == {
        float(result(folder / "front" / row["trial"])["parameters"]) for row in rows
    }
    shown = lx(folder, "sweep", "show", "front")
    assert "front" in shown.stdout
