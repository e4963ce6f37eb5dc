from __future__ import annotations

from pathlib import Path

import pytest

import lx
from lx.config.compose import resolved
from lx.config.objective import LARGER_IS_BETTER, SMALLER_IS_BETTER
from lx.config.session import conf_dir
from lx.errors import LxError, did_you_mean


def test_defaults() -> None:
    cfg = lx.compose()
    assert (cfg.name, cfg.model.dim, cfg.data.batch_size) == ("docstrings-auto", "auto", "auto")
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


def test_compositions_share_nothing() -> None:
    """Those of the same options are one composition, copied."""
    changed = lx.compose(["model=tiny", "model.num_layers=3"])
    changed.model.dim = 7
    again = lx.compose(["model=tiny"])
    assert (again.model.dim, again.model.num_layers) == (128, 2)


@pytest.mark.parametrize("dim", [4, 8])
def test_the_last_value_counts(dim: int) -> None:
    overrides = ["model={dim: 4}", "model.dim=8"]
    assert lx.compose(overrides if dim == 8 else overrides[::-1]).model.dim == dim


def test_hydra_is_left_as_it_was() -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        lx.compose(["seed=3"])
        assert compose("train").seed == 0


def test_resolved_is_plain_data() -> None:
    config = resolved(lx.compose(["recipe=plain", "data=files", "data.train=a.csv", "model/position=learned"]))
    assert config["data"]["train"] == "a.csv"
    assert config["model"]["position"]["max_length"] == 128
    assert type(config["model"]) is dict
    assert "${" not in str(config)


PRETRAINED = ["model=pretrained", "model.path=bert"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adafactor"])
@pytest.mark.parametrize("scheduler", ["cosine", "wsd"])
def test_a_pretrained_model_brings_its_own_learning_rate(optimizer: str, scheduler: str) -> None:
    config = resolved(lx.compose([*PRETRAINED, f"optimizer={optimizer}", f"scheduler={scheduler}"]))
    assert (config["optimizer"]["lr"], config["optimizer"]["weight_decay"]) == (2e-5, 0.01)
    assert config["scheduler"]["warmup"] == 0.1
    assert config["tokenizer"]["path"] == "bert"


def test_a_learning_rate_of_the_users_comes_before_that_of_a_pretrained_model(tmp_path: Path) -> None:
    chosen = lx.compose([*PRETRAINED, "optimizer.lr=1e-3", "optimizer.weight_decay=0", "scheduler.warmup=10"])
    assert (chosen.optimizer.lr, chosen.optimizer.weight_decay, chosen.scheduler.warmup) == (1e-3, 0, 10)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\noptimizer:\n  lr: 3e-5\n")
    assert lx.compose([*PRETRAINED, "experiment=mine"], tmp_path).optimizer.lr == 3e-5


def test_a_missing_value_is_named() -> None:
    with pytest.raises(LxError, match=r"model\.path"):
        resolved(lx.compose(["model=pretrained"]))


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["model={dim: wide}"], "model.dim must be a whole number, not 'wide'"),
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
        (["model.pooling=mean"], "chosen with a slash: model/pooling=mean"),
        (["model.expert=none"], "chosen with a slash: model/expert=none"),
        (["model.position=null"], "chosen with a slash: model/position=OPTION"),
        (["model=pretrained", "tokenizer=word"], "not another kind"),
        (["launch=inline", "hardware=ddp"], "hardware.devices=auto"),
        (["~logger"], "leave out ~logger; for no tracking: logger=none"),
        (["~scheduler"], "for no schedule: scheduler=constant"),
        (["~model"], "model is missing"),
        (["~data"], "data is missing"),
        (["~data", "data.batch_size=8"], "leave out ~data"),
        (["~trainer.max_epochs"], "trainer.max_epochs is missing"),
        (["~seed"], "seed is missing"),
        (["~name"], "leave out ~name"),
        (["model=tiny", "~model.dim"], "model.dim is missing, but needed: leave out ~model.dim"),
        (["~optimizer.weight_decay"], "optimizer.weight_decay is missing"),
        (["data=files", "~data.text"], "data.text is missing"),
        (["model/pooling=cls", "~model.pooling._target_"], "model.pooling._target_ is missing"),
        (["optimizer._target_=my.Sgd", "~optimizer.eps", "data=files", "~data.label"], "data.label is missing"),
        (["model=null"], "model=null: leave it out, or choose one of auto, bag, base"),
        (["callbacks={a: 1}"], "there is no setting 'callbacks.a'; add a node of your own"),
        (["+logger={a: 1}"], "logger.a must be null or a node with a _target_, not 1"),
        (["data.source=null"], "data.source must be a node with a _target_"),
        (["data.text=x"], "add data=files"),
        (["data.text=5", "data=files"], "'data.text=\"5\"'"),
        (["data.text=''", "data=files"], "data.text is empty"),
        (["data.split_seed=-1"], "data.split_seed must be a whole number from 0 to 4294967295, not -1"),
        (["trainer.max_epochs=99999999999999999999"], "trainer.max_epochs must be at most"),
        (["optimizer.lr=inf"], "optimizer.lr must be a finite number"),
        (["optimizer.lr=nan"], "optimizer.lr must be a finite number"),
        (["optimizer.betas=[0.9, 1.5]"], "optimizer.betas must be two numbers from 0"),
        (["optimizer.betas=high"], "optimizer.betas must be a list, not 'high'"),
        (["optimizer=sgd", "optimizer.momentum=2"], "optimizer.momentum must be from 0 up to"),
        (["optimizer.eps=-1"], "optimizer.eps must be 0 or more"),
        (["model.norm.eps=-1"], "model.norm.eps must be above 0"),
        (["model.hidden_multiple=0"], "model.hidden_multiple must be at least 1"),
        (["model.embedding_dim=0"], "model.embedding_dim must be at least 1, or null"),
        (["tokenizer.min_frequency=-1"], "tokenizer.min_frequency must be 0 or more"),
        (["hardware.threads=1000000"], "hardware.threads must be from 1 to 1024"),
        (["task=multilabel", "task.thresholds=2"], "task.thresholds must be shared, per_label, or a number between"),
        (["task=regression", "task.huber_delta=0"], "task.huber_delta must be above 0"),
        (["logger.wandb.mode=always"], "logger.wandb.mode must be auto, online, offline or disabled"),
        (["objective.metric=val/loss", "objective.mode=max"], "of which less is better: leave objective.mode out"),
        (["objective.mode=min"], "of which more is better"),
        (["objective.metric=val/wer"], "give objective.mode=max or objective.mode=min, too"),
    ],
)
def test_what_is_wrong_is_said(overrides: list[str], says: str) -> None:
    with pytest.raises(LxError) as error:
        lx.compose(overrides)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "mode"),
    [
        (["objective.metric=val/loss"], "min"),
        (["objective.metric=val/calibration_error"], "min"),
        (["task=regression"], "min"),
        (["task=regression", "objective.metric=val/r2"], "max"),
        (["task=multilabel"], "max"),
        (["task=multilabel", "objective.metric=val/loss"], "min"),
        (["objective.metric=val/wer", "objective.mode=min"], "min"),
    ],
)
def test_the_mode_follows_the_metric(overrides: list[str], mode: str) -> None:
    assert lx.compose(overrides).objective.mode == mode


def test_lx_knows_in_which_direction_its_own_metrics_are_better() -> None:
    from lx.tasks.classification import Classification
    from lx.tasks.multilabel import Multilabel
    from lx.tasks.regression import Regression

    classification = Classification(["a", "b"], [1, 1]).metric_names
    measured = {*classification, *Multilabel.metric_names, *Regression.metric_names}
    assert measured == {*SMALLER_IS_BETTER, *LARGER_IS_BETTER}


def test_did_you_mean() -> None:
    assert did_you_mean("modle", ["model", "data"]) == " (did you mean 'model'?)"
    assert did_you_mean("xyz", ["model", "data"]) == ""
