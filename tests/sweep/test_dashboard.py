"""optuna-dashboard shows the journal of a sweep as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from lx.sweep.journal import open_journal
from lx.sweep.space import Choices
from lx.sweep.study import JOURNAL_NAME, SweepStudy
from support.ranks import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.slow


def open_study(folder: Path) -> SweepStudy:
    axes = [Choices("optimizer.lr", ("0.1", "0.01")), Choices("model", ("tiny", "small"))]
    return SweepStudy(open_journal(folder / "journal.log"), JOURNAL_NAME, axes, "maximize", None)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[str]:
    """The address of a dashboard of a study with one finished, one failed and one waiting trial."""
    study = open_study(tmp_path)
    for rate in ("0.1", "0.01"):
        study.enqueue({"optimizer.lr": rate, "model": "tiny"})
        study.next()
    study.finish(0, 0.75, "finished")
    study.finish(1, None, "failed", "not a number: loss nan")
    study.enqueue({"optimizer.lr": "0.1", "model": "small"})
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    command = [program, tmp_path / "journal.log", "--port", str(port), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{address}/api/studies"), "the dashboard answers")
        yield address
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        return bool(read(url))
    except URLError:
        return False


def read(url: str) -> Any:
    with urlopen(url) as response:
        return json.load(response)


def test_the_dashboard_shows_the_trials_and_the_sweep_goes_on_beside_it(dashboard: str, tmp_path: Path) -> None:
    (study,) = read(f"{dashboard}/api/studies")["study_summaries"]
    assert study["study_name"] == JOURNAL_NAME
    trials = read(f"{dashboard}/api/studies/{study['study_id']}")["trials"]
    assert [trial["state"] for trial in trials] == ["Complete", "Fail", "Waiting"]
    assert trials[0]["values"] == [0.75]
    assert {param["name"]: param["param_external_value"] for param in trials[1]["params"]} == {
        "optimizer.lr": "0.01",
        "model": "tiny",
    }
    assert open_study(tmp_path).next() == (2, {"optimizer.lr": "0.1", "model": "small"})
    states = f"{dashboard}/api/studies/{study['study_id']}?after=0"
    wait_until(lambda: read(states)["trials"][2]["state"] == "Running", "the dashboard reads the journal again")
