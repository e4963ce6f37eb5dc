"""Commands whose output goes nowhere, and files of the user's own beside the data, in real processes."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from support.commands import environment, lx
from support.run_files import result
from support.tiny_run import tiny

pytestmark = pytest.mark.slow

PRINTS = {
    "help, full": ("--help > /dev/full", 2, "No space left"),
    "verb's help, closed pipe": ("train --help | :", 0, ""),
    "configuration, closed pipe": ("train --cfg job | :", 0, ""),
    "about the composition, closed pipe": ("train --info all | :", 0, ""),
    "predictions, full": ("predict {run} {file} > /dev/full", 2, "cannot write standard output: No space left"),
    "predictions, closed pipe": ("predict {run} {file} | :", 0, ""),
    "predictions, closed": ("predict {run} --text soup >&-", 0, ""),
    "predictions, no input": ("predict {run} <&-", 2, "standard input is closed"),
    "metrics, full": ("eval {run} hardware=cpu > /dev/full", 0, "No space left"),
    "completion, full": ("completion bash > /dev/full", 2, "cannot write standard output: No space left"),
    "a report's path, full": ("report {run} > /dev/full", 0, "cannot write standard output: No space left"),
    "metrics, closed": ("eval {run} hardware=cpu >&- 2>&-", 0, ""),
    "a refusal, closed": ("eval nowhere >&- 2>&-", 2, ""),
}


@pytest.mark.parametrize(("command", "code", "says"), PRINTS.values(), ids=PRINTS)
def test_output_that_goes_nowhere(trained_run: Path, tmp_path: Path, command: str, code: int, says: str) -> None:
    words = command.format(run=trained_run, file=trained_run.parent / "test.jsonl")
    script = f"set -o pipefail; {shlex.quote(sys.executable)} -m lx {words}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", ["| :", "> /dev/full", ">&-", "> /dev/full 2>&1", ">&- 2>&-", "2>&1 | :"])
def test_a_run_whose_output_goes_nowhere_finishes(trained_run: Path, tmp_path: Path, redirection: str) -> None:
    settings = tiny(trained_run.parent, f"run_dir={tmp_path}/run", "trainer.max_steps=2", "trainer.log_every_n_steps=1")
    script = f"set -o pipefail; {shlex.join([sys.executable, '-m', 'lx', 'train', *settings])} {redirection}"
    done = subprocess.run(
        ["bash", "-c", script], env=environment(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (result(tmp_path / "run")["status"], result(tmp_path / "run")["steps"]) == ("finished", 2)


def test_files_of_the_users_own_hide_no_package(trained_run: Path, tmp_path: Path) -> None:
    for name in ("tokenizers", "wandb", "random", "datasets", "select", "yaml"):
        (tmp_path / f"{name}.py").write_text("raise ZeroDivisionError\n")
    (tmp_path / "pyarrow").mkdir()
    (tmp_path / "pyarrow" / "__init__.py").touch()
    settings = tiny(trained_run.parent, f"run_dir={tmp_path}/run", "trainer.max_steps=2", "logger=default")
    done = lx(tmp_path, "train", *settings)
    assert done.returncode == 0, done.stderr
    assert "switched off" not in done.stderr and "lx sync" in done.stdout


def test_classes_of_the_users_own_are_found(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from lightning.pytorch import Callback\nclass Own(Callback):\n    pass\n")
    settings = tiny(trained_run.parent, f"run_dir={tmp_path}/run", "trainer.max_steps=2")
    done = lx(tmp_path, "train", *settings, "+callbacks.own={_target_: mine.Own}")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "finished"
