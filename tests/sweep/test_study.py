"""The study that a sweep asks for trials: its journal survives, and a resumed search draws what it would have drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from lx.run.verdict import PAUSE
from lx.sweep.journal import cut_torn_record, open_journal
from lx.sweep.judge import record_verdict
from lx.sweep.promotion import PausedAsPruned
from lx.sweep.qmc import SobolSampler
from lx.sweep.space import Axis, Choices, Interval
from lx.sweep.study import JOURNAL_NAME, SeededSampler, SweepStudy

AXES: list[Axis] = [
    Interval("lr", 1e-4, 1e-1, log=True, integer=False),
    Interval("layers", 1, 6, log=False, integer=True),
    Choices("model", ("tiny", "small")),
]


def sampler(kind: str) -> SeededSampler:
    build: dict[str, Callable[..., BaseSampler]] = {
        "tpe": partial(optuna.samplers.TPESampler, n_startup_trials=3),
        "random": optuna.samplers.RandomSampler,
        "gp": partial(optuna.samplers.GPSampler, n_startup_trials=3),
        "qmc": partial(SobolSampler, scramble_seed=5),
    }
    return SeededSampler(lambda seed: build[kind](seed=seed), seed=5)


def open_study(path: Path, kind: str = "tpe", axes: list[Axis] = AXES) -> SweepStudy:
    return SweepStudy(open_journal(path), JOURNAL_NAME, axes, "maximize", sampler(kind))


def search(path: Path, kind: str, num_trials: int, reopen: bool) -> list[tuple[int, dict[str, str]]]:
    study = open_study(path, kind)
    for _ in range(num_trials):
        study.enqueue({})
    asked = []
    while (trial := study.next()) is not None:
        asked.append(trial)
        study.finish(trial[0], -abs(float(trial[1]["lr"]) - 0.01), "finished")
        if reopen:
            study = open_study(path, kind)
    return asked


@pytest.mark.parametrize("kind", ["tpe", "random", "gp", "qmc"])
def test_a_search_that_is_resumed_before_each_trial_draws_what_an_undisturbed_one_draws(
    kind: str, tmp_path: Path
) -> None:
    undisturbed = search(tmp_path / "a.log", kind, 9, reopen=False)
    assert undisturbed == search(tmp_path / "b.log", kind, 9, reopen=True)
    assert [number for number, _ in undisturbed] == list(range(9))
    assert len({str(params) for _, params in undisturbed}) == 9


def test_no_more_trials_are_given_out_than_were_enqueued(tmp_path: Path) -> None:
    study = open_study(tmp_path / "journal.log")
    study.enqueue({"lr": 0.003, "layers": 2, "model": "small"})
    assert study.next() == (0, {"lr": "0.003", "layers": "2", "model": "small"})
    assert study.next() is None
    assert len(study) == 1


def test_a_listed_trial_sets_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    axes = [Choices("model", ("tiny", "small")), Choices("lr", ("0.1", "0.2"))]
    study = SweepStudy(open_journal(tmp_path / "journal.log"), JOURNAL_NAME, axes, "maximize", None)
    study.enqueue({"lr": "0.2"})
    study.enqueue({"model": "small"})
    assert study.next() == (0, {"lr": "0.2"})
    assert study.next() == (1, {"model": "small"})
    assert study.values_of(0) == {"lr": "0.2"}


def test_an_interrupted_trial_comes_back_with_its_own_values(tmp_path: Path) -> None:
    study = open_study(tmp_path / "journal.log")
    study.enqueue({})
    asked = study.next()
    again = open_study(tmp_path / "journal.log")
    assert asked is not None
    assert again.open_trials() == [0]
    assert (0, again.values_of(0)) == asked
    assert again.next() is None
    again.finish(0, 0.5, "finished")
    assert open_study(tmp_path / "journal.log").open_trials() == []


def test_an_axis_grows_and_finished_trials_stay(tmp_path: Path) -> None:
    path, axes = tmp_path / "journal.log", [Choices("model", ("tiny", "small"))]
    study = SweepStudy(open_journal(path), JOURNAL_NAME, axes, "maximize", None)
    for model in axes[0].values:
        study.enqueue({"model": model})
    while (trial := study.next()) is not None:
        study.finish(trial[0], 0.25, "finished")
    grown = SweepStudy(
        open_journal(path), JOURNAL_NAME, [Choices("model", ("tiny", "base", "small"))], "maximize", None
    )
    assert grown.planned() == [{"model": "tiny"}, {"model": "small"}]
    grown.enqueue({"model": "base"})
    assert grown.next() == (2, {"model": "base"})


def test_a_journal_torn_at_any_byte_of_its_last_two_records_loses_the_torn_record_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    study = open_study(path)
    for _ in range(3):
        study.enqueue({})
    first = study.next()
    study.finish(0, 0.5, "finished")
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    kept = len(content) - len(lines[-1]) - len(lines[-2])
    for size in range(kept, len(content)):
        torn = tmp_path / f"torn-{size}.log"
        torn.write_bytes(content[:size])
        again = open_study(torn)
        assert len(again) == 3
        assert [(number, again.values_of(number)) for number in again.open_trials()] in ([], [first])
        again.enqueue({})
        assert len(open_study(torn)) == 4
        torn.unlink()


@pytest.mark.parametrize(
    ("content", "kept"),
    [(b"", b""), (b"abc", b""), (b"a\nbc", b"a\n"), (b"a\n", b"a\n"), (b"a\n" + b"x" * 70000, b"a\n")],
)
def test_what_stands_behind_the_last_line_end_is_cut_off(content: bytes, kept: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    cut_torn_record(path)
    assert path.read_bytes() == kept


def test_a_relative_path_is_no_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_study(Path("journal.log")).enqueue({})
    os.chdir("/")
    assert len(open_study(tmp_path / "journal.log")) == 1


def test_other_tools_of_optuna_read_the_journal(tmp_path: Path) -> None:
    search(tmp_path / "journal.log", "random", 2, reopen=False)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "journal.log"))
    (summary,) = optuna.get_all_study_summaries(optuna.storages.JournalStorage(backend))
    assert summary.study_name == "lx"
    assert summary.n_trials == 2


def test_sobol_points_cover_an_axis_evenly(tmp_path: Path) -> None:
    points = [float(values["lr"]) for _, values in search(tmp_path / "journal.log", "qmc", 9, reopen=False)]
    eighths = {int((math.log10(point) + 4) / 3 * 4) for point in points[1:]}  # the first trial is drawn by chance
    assert eighths == {0, 1, 2, 3}


def test_trials_of_a_list_have_the_settings_that_they_name(tmp_path: Path) -> None:
    axes = [Choices("model", ("tiny", "bag")), Choices("model.num_heads", ("1", "2"))]
    study = SweepStudy(open_journal(tmp_path / "journal.log"), JOURNAL_NAME, axes, "maximize", None)
    study.enqueue({"model": "bag"})
    study.enqueue({"model": "tiny", "model.num_heads": "2"})
    assert study.next() == (0, {"model": "bag"})
    assert study.next() == (1, {"model": "tiny", "model.num_heads": "2"})
    assert study.values_of(0) == {"model": "bag"}


def test_a_search_learns_from_paused_trials_as_from_pruned_ones(tmp_path: Path) -> None:
    study = open_study(tmp_path / "journal.log")
    for _ in range(2):
        study.enqueue({})
        study.next()
    paused, _ = study.optuna.get_trials(deepcopy=False)
    study.optuna._storage.set_trial_intermediate_value(paused._trial_id, 1, 0.25)
    record_verdict(study.optuna, paused, 1, PAUSE)
    seen = PausedAsPruned.of(study.optuna).get_trials(deepcopy=False)
    assert [(trial.state, trial.values) for trial in seen] == [(TrialState.PRUNED, [0.25]), (TrialState.RUNNING, None)]
    assert study.open_trials() == [0, 1]
