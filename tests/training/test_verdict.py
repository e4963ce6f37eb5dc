"""What a trial does with the answers of its sweep, and without them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from lx.run.directory import RunDirectory
from lx.run.verdict import GO_ON, PAUSE, PRUNE, Report, read_reports, write_verdict
from lx.training.callbacks import verdict
from lx.training.callbacks.verdict import AwaitVerdict
from lx.training.run_length import RunLength


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    write_verdict(run, 0, GO_ON)
    return run


def awaiting(run: RunDirectory, monkeypatch: pytest.MonkeyPatch, patience_s: float) -> AwaitVerdict:
    monkeypatch.setattr(verdict, "_PATIENCE_S", patience_s)
    return AwaitVerdict(run, "val/accuracy", RunLength(7, 21, 7))


def report(number: int) -> Report:
    return Report(number, 7 * number, 0.5, final=number == 3)


@pytest.mark.parametrize("answer", [GO_ON, PRUNE, PAUSE])
def test_the_answer_to_a_report_is_obeyed_and_the_report_is_there_once(
    answer: str, run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = awaiting(run, monkeypatch, patience_s=30)
    write_verdict(run, 1, answer)
    assert [callback._ask(report(1)), callback._ask(report(1))] == [answer, answer]
    assert read_reports(run) == [report(1)]


def test_a_sweep_that_is_silent_is_waited_for_once_and_obeyed_late(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = awaiting(run, monkeypatch, patience_s=0.3)
    started = time.monotonic()
    assert callback._ask(report(1)) == GO_ON
    assert time.monotonic() - started >= 0.3
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("waited again"))
    assert callback._ask(report(2)) == GO_ON
    write_verdict(run, 1, PRUNE)
    assert callback._ask(report(2)) == PRUNE


def test_nothing_is_asked_where_training_ends_anyway(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    callback = awaiting(run, monkeypatch, patience_s=30)
    started = time.monotonic()
    assert callback._ask(report(3)) == GO_ON
    assert time.monotonic() - started < 10
    assert read_reports(run) == [report(3)]
