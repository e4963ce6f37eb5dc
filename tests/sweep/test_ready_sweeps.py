"""Every ready sweep, and every kind of sweep, can be planned as it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from lx.config.session import conf_dir, hydra_session
from lx.sweep.plan import make_plan

READY = Path(__file__).parents[2] / "sweeps"
SWEEPS = sorted(path.stem for path in (READY / "sweep").glob("*.yaml"))
KINDS = sorted(path.stem for path in (conf_dir() / "sweep").glob("[!_]*.yaml"))


def test_there_are_ready_sweeps_and_kinds() -> None:
    assert {"learning_rate", "size", "seeds", "positions", "norms", "tokenizers", "search"} <= set(SWEEPS)
    assert {"grid", "random", "tpe"} <= set(KINDS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name == "search" else ()) for name in SWEEPS]
)
def test_a_ready_sweep_can_be_planned(name: str) -> None:
    with hydra_session(READY) as hydra:
        plan = make_plan(hydra, [f"sweep={name}"], str(READY))
    assert plan.num_trials >= 1
    assert len(plan.space.seeds) > 1


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_sweep_can_be_planned(name: str) -> None:
    more = [] if name == "grid" else ["sweep.n_trials=3"]
    with hydra_session() as hydra:
        plan = make_plan(hydra, [f"sweep={name}", "model=tiny,small", *more], None)
    assert plan.num_trials == (2 if name == "grid" else 3)
    keys = [axis.key for axis in plan.axes]
    assert keys == ["model"] or (name == "auto" and "model" in keys)  # which searches beside it, too
