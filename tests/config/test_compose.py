"""Every file of conf/ composes, alone and together, and agrees with the code that reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from functools import cache
from itertools import product, zip_longest
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from omegaconf import DictConfig, OmegaConf

import lx
from lx.config.compose import resolved
from lx.config.conflicts import check_file, files_of
from lx.config.schema import DataSettings, HardwareSettings, Settings, SlurmSettings, TrainerSettings
from lx.config.session import compose_unchecked, conf_dir, hydra_session
from lx.config.validate import check_config

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


@cache
def composed(option: Path) -> DictConfig:
    """The configuration with one option, which no test changes."""
    return lx.compose([override(option)])


def test_the_options_are_found() -> None:
    """Recursively: a group that is not looked into would leave its options untested."""
    on_disk = [path for path in conf_dir().glob("*/**/*.yaml") if (conf_dir() / OWN_ROOT) not in path.parents]
    assert len(OPTIONS) == len([path for path in on_disk if not path.name.startswith("_")]) > 60
    groups = {path.parent.as_posix() for path in OPTIONS}
    assert {"data", "model", "model/position", "optimizer", "hardware", "experiment", "debug"} <= groups
    with hydra_session() as hydra:
        found = {group for group in groups if hydra.config_loader.get_group_options(group) != []}
    assert found == groups


def settings_of(node: Any) -> set[tuple[str, str]]:
    """Dotted keys and unresolved values, without the defaults list."""
    container = OmegaConf.to_container(node, resolve=False)
    assert isinstance(container, dict)
    leaves, left = set(), [(str(key), value) for key, value in container.items() if key != "defaults"]
    while left:
        key, value = left.pop()
        if isinstance(value, dict) and value:
            left += [(f"{key}.{name}", child) for name, child in value.items()]
        else:
            leaves.add((key, repr(value)))
    return leaves


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_every_option_composes(option: Path) -> None:
    """Composed and checked, and the keys of its file have arrived in its group."""
    config = composed(option)
    file = conf_dir() / option.with_suffix(".yaml")
    is_global = file.read_text(encoding="utf-8").startswith("# @package _global_")
    node = config if is_global else OmegaConf.select(config, option.parent.as_posix().replace("/", "."))
    assert settings_of(OmegaConf.load(file)) <= settings_of(node)
    if option != Path("model/pretrained"):  # its path has to be given
        resolved(config)


def combinations() -> list[tuple[str, str, str, str]]:
    groups = ("experiment", "optimizer", "hardware", "model")
    return list(product(*(options(group) for group in groups)))


def compose_combination(hydra: Hydra, experiment: str, optimizer: str, hardware: str, model: str) -> None:
    """An experiment's settings arrive, and what the command line chooses is as if there were no experiment."""
    chosen = [f"optimizer={optimizer}", f"hardware={hardware}", f"model={model}"]
    plain = compose_unchecked(hydra, chosen)
    cfg = compose_unchecked(hydra, [*chosen, f"experiment={experiment}"])
    check_config(cfg, cfg)
    for group in ("optimizer", "scheduler", "hardware", "model"):
        assert cfg[group] == plain[group], (group, *chosen)
    assert cfg.trainer != plain.trainer, experiment


def test_experiments_go_with_every_option() -> None:
    groups = [options(group) for group in ("experiment", "optimizer", "hardware", "model")]
    rows = [tuple(names[i % len(names)] for names in groups) for i in range(max(map(len, groups)))]
    assert [sorted(set(names)) for names in zip(*rows, strict=True)] == groups
    with hydra_session() as hydra:
        for combination in rows:
            compose_combination(hydra, *combination)


@pytest.mark.slow
def test_every_combination_composes() -> None:
    assert len(options("optimizer")) >= 6
    assert len(options("hardware")) >= 8
    assert len(options("model")) >= 6
    assert len(combinations()) >= 6 * 8 * 6
    with hydra_session() as hydra:
        for combination in combinations():
            compose_combination(hydra, *combination)


def test_no_option_but_those_of_hardware_sets_hardware() -> None:
    """Nor two settings of which one has no effect. Options of several groups are composed together."""
    groups: dict[Path, list[Path]] = {}
    for option in OPTIONS:
        groups.setdefault(option.parent, []).append(option)
    parts_of_a_model = [groups.pop(group) for group in list(groups) if len(group.parts) > 1]
    assert parts_of_a_model and groups
    checked = set()
    with hydra_session() as hydra:
        for chosen in [*zip_longest(*groups.values()), *zip_longest(*parts_of_a_model)]:
            for path, package in files_of(hydra, [override(option) for option in chosen if option]):
                check_file(hydra, path, package)
                checked.add(path)
    assert {str(option) for option in OPTIONS} <= checked


def test_debug_options_go_with_the_defaults_and_with_an_experiment() -> None:
    for name in options("debug"):
        for others in ([], ["experiment=trec"], ["hardware=cpu"]):
            cfg = lx.compose([f"debug={name}", *others])
            assert cfg.trainer.limit_train_batches is not None
            assert cfg.trainer.max_steps is cfg.trainer.val_check_interval is None


@pytest.mark.parametrize(
    ("group", "schema"), [("trainer", TrainerSettings), ("hardware", HardwareSettings), ("data", DataSettings)]
)
def test_schema_and_yaml_agree(group: str, schema: type) -> None:
    names = {field.name for field in fields(schema)}
    of_slurm = {"extra", *(field.name for field in fields(SlurmSettings))}
    for option in options(group):
        keys = set(map(str, composed(Path(group, option))[group]))
        known = names | of_slurm if option == "slurm" else names
        assert known <= keys if group == "data" else known == keys, option


def test_top_level_schema_and_yaml_agree() -> None:
    built = {"tokenizer", "model", "task", "optimizer", "scheduler", "callbacks", "logger", "recipe"}
    assert set(map(str, lx.compose())) == {field.name for field in fields(Settings)} | built


LIGHT_COMMANDS = [
    "--help",
    "train --help",
    "check --help",
    "train --cfg job",
    "train --cfg job --resolve model=base",
    "train --info defaults",
    "completion bash",
    "completion query lx train model=",
    "train optimizer.lrr=1",
    "eval --help",
    "predict --help",
]


def test_torch_is_not_imported() -> None:
    program = (
        "import json, sys\nfrom lx.cli.main import main\n"
        "for command in json.loads(sys.argv[1]):\n"
        "    try:\n        code = main(command.split(' ', 2 if command.startswith('completion') else -1))\n"
        "    except SystemExit as end:\n        code = end.code\n"
        "    heavy = {'torch', 'lightning', 'datasets', 'wandb', 'tokenizers', 'pyarrow'} & set(sys.modules)\n"
        "    assert not heavy, (command, heavy)\n"
        "    assert code == (2 if 'lrr' in command else 0), (command, code)\n"
    )
    command = [sys.executable, "-c", program, json.dumps(LIGHT_COMMANDS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
