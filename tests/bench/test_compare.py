"""The comparison with other programs trains each in a process of its own, and names the one that fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.baselines import SubprocessBaseline
from lx.errors import LxError
from support.corpus import write_rows
from support.tiny_run import tiny

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "compare.py"


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_unknown_program_is_refused() -> None:
    ended = compare("nobody")
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("error: nobody: unknown; there are: hf, trainer, lightning, bare")


@pytest.mark.slow
def test_a_program_trains_in_a_process_of_its_own(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 480)
    write_rows(tmp_path / "test.jsonl", 18, start=1000)
    out = tmp_path / "report.json"
    length = ["--steps", "3", "--warmup", "1", "--rounds", "2"]
    ended = compare("bare", *length, "--out", str(out), *tiny(tmp_path))
    assert ended.returncode == 0, ended.stderr
    rounds = json.loads(out.read_text())["rounds"]
    assert list(rounds) == ["lx", "bare loop"]
    assert all(len(speeds) == 2 and min(speeds) > 0 for speeds in rounds.values())
    assert "bare loop" in ended.stdout and "times as fast" in ended.stdout


def test_a_program_that_fails_is_named_with_the_last_line_it_printed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise ValueError('no such thing')"]
    with pytest.raises(LxError, match="somebody ended with exit code 1: ValueError: no such thing"):
        SubprocessBaseline("somebody", command, {}, tmp_path / "log.txt")


def test_a_program_that_fails_later_is_named_too(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input(); print('{}', flush=True); input(); raise ValueError('no memory')"]
    baseline = SubprocessBaseline("somebody", command, {}, tmp_path / "log.txt")
    with closing(baseline), pytest.raises(LxError, match="somebody ended with exit code 1: ValueError: no memory"):
        baseline.run(1, 1)
