from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lx.config.session import hydra_session
from lx.errors import LxError
from lx.sweep.combinations import grid, probes, read_trials
from lx.sweep.space import Choices, Interval, Space, parse_space


@pytest.fixture(scope="module")
def hydra() -> Iterator[Any]:
    with hydra_session() as session:
        yield session


def test_what_varies_is_told_from_what_does_not(hydra: Any) -> None:
    overrides = ["model=tiny,small", "optimizer.lr=tag(log,interval(1e-5,1e-2))", "trainer.max_epochs=3", "seed=4,2"]
    space = parse_space(hydra, [*overrides, "model.num_layers=int(interval(1,9))"], {}, None)
    assert space.fixed == ("trainer.max_epochs=3",)
    assert space.seeds == (4, 2)
    assert space.axes == (
        Choices("model", ("tiny", "small")),
        Interval("optimizer.lr", 1e-5, 1e-2, log=True, integer=False),
        Interval("model.num_layers", 1, 9, log=False, integer=True),
    )


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("model.num_layers=choice(2,4,6)", ("2", "4", "6")),
        ("model.num_layers=range(1,10,4)", ("1", "5", "9")),
        ("model/position=glob(r*)", ("rotary",)),
        ("name='a, b',c", ("'a, b'", "c")),
        ("optimizer.betas=[0.9,0.99],[0.8,0.9]", ("[0.9,0.99]", "[0.8,0.9]")),
        ("data.text_pair=null,other", ("null", "other")),
        ("model=tiny,tiny,small", ("tiny", "small")),
    ],
)
def test_the_whole_sweep_grammar_of_hydra_is_read(hydra: Any, override: str, values: tuple[str, ...]) -> None:
    (axis,) = parse_space(hydra, [override], {}, None).axes
    assert isinstance(axis, Choices)
    assert axis.values == values


def test_a_files_axes_are_overridden_by_the_command_line(hydra: Any) -> None:
    space = parse_space(hydra, ["model=base"], {"model": "tiny,small", "optimizer.lr": [0.1, 0.2]}, 3)
    assert space.axes == (Choices("optimizer.lr", ("0.1", "0.2")),)
    assert space.fixed == ("model=base",)
    assert space.seeds == (0, 1, 2)


def test_seeds_count_up_from_the_one_that_is_set(hydra: Any) -> None:
    assert parse_space(hydra, ["seed=7"], {}, 2).seeds == (7, 8)
    assert parse_space(hydra, ["seed=7"], {}, None).fixed == ()


@pytest.mark.parametrize(
    ("overrides", "num_seeds", "message"),
    [
        (["seed=0,1"], 2, "give one of the two"),
        (["seed=a,b"], None, "seeds are whole numbers"),
        (["optimizer.lr=tag(log,interval(0,1))"], None, "begins above 0"),
        (["optimizer.lr=interval(2,1)"], None, "an interval grows"),
        (["model=tiny small,)"], None, r"model=tiny small,\)"),
        (["model/position=glob(zzz*)"], None, "lists no values"),
    ],
)
def test_wrong_axes_are_refused_by_name(hydra: Any, overrides: list[str], num_seeds: int | None, message: str) -> None:
    with pytest.raises(LxError, match=message):
        parse_space(hydra, overrides, {}, num_seeds)


SPACE = Space((), (Choices("a", ("1", "2")), Choices("b", ("x", "y", "z"))), (0,))


def test_a_grid_is_every_combination_but_those_excluded() -> None:
    whole = grid(SPACE, [], [])
    assert [tuple(params.values()) for params in whole] == [(a, b) for a in "12" for b in "xyz"]
    assert [p for p in whole if p not in grid(SPACE, [{"a": 2, "b": ["x", "z"]}], [])] == [
        {"a": "2", "b": "x"},
        {"a": "2", "b": "z"},
    ]


def test_zipped_axes_go_together() -> None:
    space = Space((), (Choices("a", ("1", "2")), Choices("b", ("x", "y")), Choices("c", ("u", "v"))), (0,))
    assert [tuple(params.values()) for params in grid(space, [], [["a", "c"]])] == [
        ("1", "u", "x"),
        ("1", "u", "y"),
        ("2", "v", "x"),
        ("2", "v", "y"),
    ]


@pytest.mark.parametrize(
    ("exclude", "zipped", "message"),
    [
        ([{"aa": 1}], [], r"not 'aa' \(did you mean"),
        ([], [["a", "c"]], "not 'c'"),
        ([], [["a", "b"]], "as many values each"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(exclude: list[Any], zipped: list[Any], message: str) -> None:
    with pytest.raises(LxError, match=message):
        grid(SPACE, exclude, zipped)


def test_an_interval_has_no_grid() -> None:
    with pytest.raises(LxError, match="lr: a grid needs a list of values"):
        grid(Space((), (Interval("lr", 0.1, 1.0, log=False, integer=False),), (0,)), [], [])


def test_few_combinations_are_probed_all_and_many_value_by_value() -> None:
    assert list(probes(SPACE, 6)) == grid(SPACE, [], [])
    probed = list(probes(SPACE, 5))
    assert {(key, value) for params in probed for key, value in params.items()} == {
        *(("a", value) for value in "12"),
        *(("b", value) for value in "xyz"),
    }
    interval = Space((), (Interval("lr", 0.125, 0.5, log=False, integer=False),), (0,))
    assert list(probes(interval, 10)) == [{"lr": "0.125"}, {"lr": "0.5"}]


def test_explicit_trials_are_read_and_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    path.write_text('{"model": "tiny", "optimizer.lr": 0.001}\n\n{"model": "small", "data.text_pair": null}\n')
    assert read_trials(path) == [
        {"model": "tiny", "optimizer.lr": "0.001"},
        {"model": "small", "data.text_pair": "null"},
    ]
    path.write_text('{"model": "tiny"}\n[1]\n')
    with pytest.raises(LxError, match=r"trials\.jsonl:2: a trial is an object"):
        read_trials(path)
    path.write_text("")
    with pytest.raises(LxError, match="lists no trials"):
        read_trials(path)
    with pytest.raises(LxError, match="No such file"):
        read_trials(tmp_path / "missing.jsonl")
