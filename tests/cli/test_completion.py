from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lx.cli import completion
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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("lx train --c", {"--cfg", "--config-dir"}),
        ("lx predict runs/a --de", {"--devices"}),
        ("lx resume runs/a --", {"--pruned", "--trust"}),
        ("lx sweep resume --h", set()),
        ("lx train -m --dry-run model=ti", {"model=tiny"}),
        ("lx train data.train=", set()),
        ("lx train data.train=00/", set()),
        ("lx train model.vectors=glove", set()),
        ("lx eval runs/", set()),
        ("lx trian --c", set()),
    ],
)
def test_options_and_files(line: str, expected: set[str]) -> None:
    """Without candidates the shell offers its files."""
    found = set(candidates(line))
    assert expected <= found and (expected or not found)


# What bash calls with the line up to the cursor; = is among its word breaks unless a person has taken it out.
BASH = """
lx() { [[ $1 == completion && $2 == query ]] && printf %s "$ANSWER"; }
before=$COMP_WORDBREAKS
source /dev/stdin <<< "$SCRIPT"
[[ $COMP_WORDBREAKS == "$before" ]] || echo "word breaks changed"
[[ -z $WITHOUT ]] || COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
COMP_LINE=$LINE COMP_POINT=${#LINE} COMP_WORDS=(lx x) COMP_CWORD=1
_lx_complete
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("line", "answer", "without", "expected"),
    [
        ("lx tr", "train\n", "", ["train"]),
        ("lx train optimizer=ada", "optimizer=adam\noptimizer=adamw\n", "", ["adam", "adamw"]),
        ("lx train optimizer=ada", "optimizer=adam\noptimizer=adamw\n", "1", ["optimizer=adam", "optimizer=adamw"]),
        ("lx train optimizer.", "optimizer.lr=\n", "", ["optimizer.lr="]),
        ("lx train data.train=so", "", "", [""]),  # bash itself then completes files
        ("lx train data.train=so", "", "1", ["data.train=some file.csv"]),
    ],
)
def test_bash(tmp_path: Path, line: str, answer: str, without: str, expected: list[str]) -> None:
    (tmp_path / "some file.csv").touch()
    environment = {"LINE": line, "ANSWER": answer, "WITHOUT": without, "SCRIPT": completion.SCRIPTS["bash"]}
    done = subprocess.run(
        ["bash", "-c", BASH], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.removesuffix("\n").split("\n") == expected and done.stderr == ""


def test_a_query_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    for line in ("lx train --config-dir nowhere model=", "lx train 'model=", "lx train model=[", "lx train +", ""):
        assert main(["completion", "query", line]) == 0
        assert capfd.readouterr().err == ""


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
