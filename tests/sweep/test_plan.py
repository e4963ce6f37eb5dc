"""What a plan refuses before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lx.config.session import hydra_session
from lx.errors import LxError
from lx.sweep.plan import make_plan

SEARCH = ["sweep.n_trials=4", "optimizer.lr=tag(log,interval(1e-5,1e-2))"]


@pytest.fixture(scope="module")
def hydra() -> Iterator[Any]:
    with hydra_session() as session:
        yield session


@pytest.mark.parametrize("kind", ["qmc", "gp"])
def test_a_search_may_have_four_trials(kind: str, hydra: Any) -> None:
    assert make_plan(hydra, [f"sweep={kind}", "sweep.seed=7", *SEARCH], None).num_trials == 4


def test_the_sequence_is_scrambled_by_the_seed_of_the_sweep(hydra: Any) -> None:
    made = make_plan(hydra, ["sweep=qmc", "sweep.seed=7", *SEARCH], None)
    assert made.settings["sampler"]["scramble_seed"] == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=tiny,bag", "model.num_heads=1,2"], "a setting that only some trials have needs sweep.list=FILE"),
        (["sweep.promote=true", "sweep/pruner=median", "seed=0,1"], "leave out sweep/pruner"),
        (
            ["sweep.promote=true", "sweep.reduction=1", "seed=0,1"],
            "sweep.reduction must be a whole number",
        ),
        (
            ["sweep.objectives=[parameters:min]", "sweep/pruner=median", "seed=0,1"],
            "pruned or promoted by one objective",
        ),
        (["sweep.objectives=[test/accuracy:max]", "seed=0,1"], "'test/accuracy:max' is none"),
        (["sweep/pruner=medium", "seed=0,1"], "did you mean 'median'"),
        (["seed=0,-1"], "seed=-1: seed must be"),
        (["seed=0,1", "run_dir=here"], "run_dir=here: a sweep has a directory for each"),
        (["sweep.confirm=0", "seed=0,1"], "sweep.confirm must be a whole number of at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(overrides: list[str], message: str, hydra: Any) -> None:
    with pytest.raises(LxError, match=message):
        make_plan(hydra, overrides, None)
