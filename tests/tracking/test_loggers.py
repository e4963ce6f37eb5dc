from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from lightning.pytorch.loggers import Logger
from omegaconf import OmegaConf

from lx.errors import LxError
from lx.system.git import diff, revision
from lx.tracking.context import RunContext
from lx.tracking.csv import CsvLogger
from lx.tracking.loggers import build_loggers
from lx.tracking.tensorboard import TensorBoardTracker
from lx.tracking.wandb import WandbTracker

CONF = Path(__file__).parents[2] / "conf"


def run(tmp_path: Path) -> RunContext:
    return RunContext(tmp_path, "a", {}, [], None, "id")


def choose(option: str, *overrides: str) -> dict[str, object]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(overrides=[f"+logger={option}", *overrides])
    nodes = OmegaConf.to_container(cfg.logger, resolve=True)
    assert isinstance(nodes, dict)
    return nodes


@pytest.mark.parametrize(
    ("option", "classes"),
    [
        ("default", [CsvLogger, WandbTracker]),
        ("csv", [CsvLogger]),
        ("wandb", [WandbTracker]),
        ("tensorboard", [TensorBoardTracker]),
        ("[csv,tensorboard]", [CsvLogger, TensorBoardTracker]),
        ("none", []),
    ],
)
def test_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, classes: list[type[Logger]]) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    loggers = build_loggers(choose(option), run(tmp_path))
    assert [type(logger) for logger in loggers] == classes
    for logger in loggers:
        logger.log_metrics({"a": 1}, 2)
    assert (tmp_path / "metrics.csv").exists() == (CsvLogger in classes)


def test_every_option_is_tested() -> None:
    names = {path.stem for path in (CONF / "logger").glob("*.yaml")}
    assert names == {"default", "csv", "wandb", "tensorboard", "mlflow", "none"}, "mlflow has its own file"


def test_null_switches_one_off(tmp_path: Path) -> None:
    nodes = choose("default", "logger.wandb=null")
    assert [type(logger) for logger in build_loggers(nodes, run(tmp_path))] == [CsvLogger]


def test_a_complete_logger_is_taken_as_it_is(tmp_path: Path) -> None:
    node = {"_target_": "lx.tracking.csv.CsvLogger", "path": str(tmp_path / "own.csv")}
    (logger,) = build_loggers({"own": node}, run(tmp_path / "run"))
    assert logger.save_dir == str(tmp_path)


def test_no_loggers(tmp_path: Path) -> None:
    assert build_loggers(None, run(tmp_path)) == []


def test_missing_tensorboard_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lx.tracking.tensorboard.find_spec", lambda name: None)
    with pytest.raises(LxError, match=r"pip install 'lx\[tensorboard\]'"):
        build_loggers(choose("tensorboard"), run(tmp_path))


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    command = ["git", "-C", str(directory), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision(tmp_path) is None, "outside a repository"
    git(tmp_path, "init", "--quiet")
    assert revision(tmp_path) is None, "before the first commit"
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    git(tmp_path, "tag", "v1", "--annotate", "--message", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "untracked").mkdir()
    assert revision(tmp_path) == head
    assert revision(tmp_path / "untracked") == head
    (tmp_path / "file").write_text("two")
    assert revision(tmp_path) == f"{head}-dirty"
    monkeypatch.chdir(tmp_path)
    assert revision() == f"{head}-dirty"
    assert diff().endswith(b"-one\n\\ No newline at end of file\n+two\n\\ No newline at end of file\n")
    monkeypatch.setattr("lx.system.git._LARGEST_DIFF", 7)
    assert diff() == b"diff --"
    monkeypatch.setenv("PATH", "")
    assert revision() is None, "git is missing"
    assert diff() == b""
