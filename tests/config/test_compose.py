"""Every file of conf/ composes, alone and together, and agrees with the code that reads it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from itertools import product
from pathlib import Path

import pytest
from hydra.types import RunMode

import lx
from lx.config.compose import resolved
from lx.config.schema import DataSettings, HardwareSettings, Settings, SlurmSettings, TrainerSettings
from lx.config.session import conf_dir, hydra_session

FILES = sorted(path.relative_to(conf_dir()).with_suffix("") for path in conf_dir().rglob("*.yaml"))
OWN_ROOT = "sweep"  # the group that conf/sweep.yaml composes, and not conf/train.yaml
OPTIONS = [
    path for path in FILES if len(path.parts) > 1 and path.parts[0] != OWN_ROOT and not path.name.startswith("_")
]


def options(group: str) -> list[str]:
    return [path.name for path in OPTIONS if path.parent == Path(group)]


def override(option: Path) -> str:
    group, name = option.parent.as_posix(), option.name
    return f"{group}={name}"


def test_the_options_are_found() -> None:
    assert len(OPTIONS) > 60
    assert {"data", "model", "model/position", "optimizer", "hardware"} <= {path.parent.as_posix() for path in OPTIONS}


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_composes(option: Path) -> None:
    config = lx.compose([override(option)])
    if option != Path("model/pretrained"):  # its path has to be given
        resolved(config)


@pytest.mark.slow
def test_every_combination_composes() -> None:
    experiments = [[], *([f"experiment={name}"] for name in options("experiment"))]
    groups = [experiments, options("optimizer"), options("hardware"), options("model")]
    assert all(len(names) > 0 for names in groups)
    with hydra_session() as hydra:
        for experiment, optimizer, hardware, model in product(*groups):
            overrides = [*experiment, f"optimizer={optimizer}", f"hardware={hardware}", f"model={model}"]
            cfg = hydra.compose_config("train", overrides, RunMode.RUN, with_log_configuration=False)
            assert cfg.optimizer.lr > 0, overrides


@pytest.mark.parametrize(
    ("group", "schema"), [("trainer", TrainerSettings), ("hardware", HardwareSettings), ("data", DataSettings)]
)
def test_schema_and_yaml_agree(group: str, schema: type) -> None:
    names = {field.name for field in fields(schema)}
    for option in options(group):
        keys = set(map(str, lx.compose([f"{group}={option}"])[group]))
        if option == "slurm":
            keys -= {"extra", *(field.name for field in fields(SlurmSettings))}
        assert keys == names if group != "data" else names <= keys, option


def test_top_level_schema_and_yaml_agree() -> None:
    built = {"tokenizer", "model", "task", "optimizer", "scheduler", "callbacks", "logger"}
    assert set(map(str, lx.compose())) == {field.name for field in fields(Settings)} | built


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["check", "--help"],
        ["train", "--cfg", "job"],
        ["train", "--cfg", "job", "--resolve", "model=base"],
        ["train", "--info", "defaults"],
        ["completion", "bash"],
        ["completion", "query", "lx train model="],
        ["train", "optimizer.lrr=1"],
        ["eval", "--help"],
        ["predict", "--help"],
    ],
    ids=" ".join,
)
def test_torch_is_not_imported(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom lx.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'datasets', 'wandb', 'tokenizers', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
