from __future__ import annotations

import shutil
import subprocess

import pytest

from lx.cli.completion import candidates
from lx.cli.main import main


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lx ", {"train", "check", "eval", "predict"}),
        ("lx tr", {"train"}),
        ("lx train optim", {"optimizer=", "optimizer."}),
        ("lx train optimizer=", {"optimizer=adamw", "optimizer=sgd"}),
        ("lx train optimizer=ada", {"optimizer=adamw", "optimizer=adam"}),
        ("lx train model/pos", {"model/position="}),
        ("lx train optimizer.", {"optimizer.lr=", "optimizer.weight_decay="}),
        ("lx check model=t", {"model=tiny"}),
        ("lx train model=tiny see", {"seed="}),
    ],
)
def test_candidates(line: str, expected: set[str]) -> None:
    assert expected <= set(candidates(line))


def test_nothing_private_is_offered() -> None:
    assert not [word for word in candidates("lx train model=") if "=_" in word or "hydra" in word]
    assert candidates("lx predict ") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_valid(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "lx completion query" in script
    if shutil.which(shell) is None and shell != "bash":
        pytest.skip(f"{shell} is not installed, so the syntax of its script is not checked")
    subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_query(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "query", "lx train optimizer=adamw"]) == 0
    assert capsys.readouterr().out.split() == ["optimizer=adamw"]
