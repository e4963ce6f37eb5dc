from __future__ import annotations

from pathlib import Path

import pytest

import lx
from lx.config.compose import conf_dir, resolved
from lx.errors import LxError, did_you_mean


def test_defaults() -> None:
    cfg = lx.compose()
    assert (cfg.name, cfg.model.dim, cfg.model.num_layers, cfg.data.batch_size) == ("docstrings-small", 256, 4, 64)
    assert "hydra" not in cfg


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("optimizer.lr=1e-2", "lr", 0.01),
        ("optimizer.lr=1", "lr", 1),  # a whole number may stand for a number
        ("optimizer.weight_decay=0", "weight_decay", 0),
    ],
)
def test_values_arrive(override: str, key: str, value: float) -> None:
    assert lx.compose([override]).optimizer[key] == value


def test_hardware_comes_after_the_experiment(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\nhardware:\n  micro_batch: 3\n")
    cfg = lx.compose(["experiment=mine", "hardware=cpu"], tmp_path)
    assert cfg.seed == 7
    assert cfg.hardware.micro_batch == "auto", "an experiment never names machines"
    assert lx.compose(["experiment=mine", "seed=8"], tmp_path).seed == 8


def test_a_conf_folder_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("defaults: [tiny]\ndim: 32\n")
    monkeypatch.chdir(tmp_path)
    assert lx.compose(["model=mine"]).model.dim == 32


def test_config_dir_wins_over_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, dim in (("conf", 32), ("other", 48)):
        (tmp_path / folder / "model").mkdir(parents=True)
        (tmp_path / folder / "model" / "mine.yaml").write_text(f"defaults: [tiny]\ndim: {dim}\n")
    monkeypatch.chdir(tmp_path)
    assert lx.compose(["model=mine"], "other").model.dim == 48


def test_hydra_is_left_as_it_was() -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        lx.compose(["seed=3"])
        assert compose("train").seed == 0


def test_resolved_is_plain_data() -> None:
    config = resolved(lx.compose(["data=files", "data.train=a.csv", "model/position=learned"]))
    assert config["data"]["source"]["train"] == "a.csv"
    assert config["model"]["position"]["max_length"] == 128
    assert type(config["model"]) is dict
    assert "${" not in str(config)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(LxError, match=r"model\.path"):
        resolved(lx.compose(["model=pretrained"]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["optimizer.lr=fast"], "optimizer.lr must be a number, not 'fast'"),
        (["data.text=5", "data=files"], "data.text must be text, not 5"),
        (["tokenizer.lowercase=1"], "tokenizer.lowercase must be true or false, not 1"),
        (["trainer.max_steps=2.5"], "trainer.max_steps must be a whole number or null, not 2.5"),
        (["seed=-1"], "seed must be a whole number from 0 to 4294967295, not -1"),
        (["model.dim=100", "model.num_heads=3"], "try model.dim=99"),
        (["model.dim=1", "model.num_heads=4"], "try model.dim=4"),
        (["+brand.new=1", "sed=1"], "did you mean 'seed'"),
        (["trainer.max_epoch=1"], "did you mean 'trainer.max_epochs'"),
        (["trainer=defualt"], "did you mean 'default'"),
    ],
)
def test_what_is_wrong_is_said(overrides: list[str], says: str) -> None:
    with pytest.raises(LxError) as error:
        lx.compose(overrides)
    assert says in str(error.value)


def test_did_you_mean() -> None:
    assert did_you_mean("modle", ["model", "data"]) == " (did you mean 'model'?)"
    assert did_you_mean("xyz", ["model", "data"]) == ""
