"""What settings that are ``auto`` become."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

import lx
from lx.config.auto import auto_keys
from lx.config.compose import resolved
from lx.data.corpus.facts import CorpusFacts
from lx.errors import LxError
from lx.launch.local import prepare_run
from lx.system.hardware import Hardware
from lx.training.builders import build_run
from lx.training.recipe import choose, max_length, num_epochs, validation_fraction
from support.corpus import jsonl, write_rows

HARDWARE = Hardware("cpu", "32-true", "[CPU]", 1)
ENGLISH = CorpusFacts(rows=5_000, words=30, characters=170, cjk_share=0.0)


def chosen(facts: CorpusFacts, expert_outputs: int = 4, **given: Any) -> dict[str, Any]:
    """The values of a recipe, where some were given; keys with two underscores for a dot."""
    values: dict[str, Any] = {key.replace("__", "."): value for key, value in given.items()}

    def settle(key: str, value: Any, reason: str) -> Any:
        assert reason
        return values.setdefault(key, value)

    choose(facts, settle, expert_outputs=expert_outputs)
    return values


def test_more_rows_want_fewer_epochs_and_less_regularisation() -> None:
    assert [num_epochs(n) for n in (50, 3_257, 5_000, 50_000, 10_000_000)] == [30, 15, 12, 4, 2]
    small, large = chosen(ENGLISH), chosen(CorpusFacts(200_000, 60, 400, 0.0))
    for key in ("trainer.max_epochs", "model.dropout", "model.head_dropout", "optimizer.lr"):
        assert small[key] > large[key], key
    for key in ("data.batch_size", "model.dim", "data.max_length"):
        assert small[key] < large[key], key


def test_the_script_decides_about_the_tokenizer_and_it_about_the_length() -> None:
    chinese = CorpusFacts(rows=50_000, words=38, characters=40, cjk_share=0.9)
    assert chosen(ENGLISH)["tokenizer"] == "word"
    assert chosen(chinese)["tokenizer"] == "char"
    assert chosen(chinese)["data.max_length"] == 48
    lengths = [max_length(ENGLISH, tokenizer) for tokenizer in ("word", "bpe", "byte")]
    assert lengths == [40, 48, 176]
    dropped = [chosen(ENGLISH, tokenizer=tokenizer)["model.token_dropout"] for tokenizer in ("word", "char", "bpe")]
    assert dropped == [0.0, 0.1, 0.1], "[UNK] must be seen in training"
    assert max_length(CorpusFacts(10, 3, 9, 0.0), "word") == 32
    assert max_length(CorpusFacts(10, 3_000, 20_000, 0.0), "word") == 256


def test_an_adversarial_pass_takes_the_time_of_other_networks() -> None:
    large, huge = CorpusFacts(50_000, 60, 400, 0.0), CorpusFacts(200_000, 60, 400, 0.0)
    keys = ("model.adversarial", "model.num_members")
    assert [tuple(chosen(facts)[key] for key in keys) for facts in (ENGLISH, large, huge)] == [
        (0.1, 2),
        (None, 4),
        (None, 2),
    ]
    assert chosen(ENGLISH, model__adversarial=None)["model.num_members"] == 4
    for facts, outputs in ((replace(ENGLISH, has_pairs=True), 4), (ENGLISH, 1)):
        assert chosen(facts, outputs)["model.adversarial"] is None
        assert chosen(facts, outputs)["model.num_members"] == 4


def test_pairs_are_compared_after_a_pooling_of_all_tokens() -> None:
    pairs = replace(ENGLISH, has_pairs=True)
    assert not chosen(ENGLISH)["model.compare_pairs"]
    poolings = {name: {"model__pooling": name} for name in ("mean_max", "attention", "cls", "mean_query")}
    compared = {name: chosen(pairs, **given)["model.compare_pairs"] for name, given in poolings.items()}
    assert compared == {"mean_max": True, "attention": True, "cls": False, "mean_query": False}


def test_given_values_decide_about_the_others() -> None:
    assert chosen(ENGLISH, model__dim=512)["optimizer.lr"] < chosen(ENGLISH)["optimizer.lr"]
    assert chosen(ENGLISH, tokenizer="byte")["data.max_length"] > chosen(ENGLISH)["data.max_length"]
    assert [chosen(ENGLISH, model__dim=dim)["model.num_heads"] for dim in (512, 50, 33)] == [4, 2, 1]


def test_an_expert_is_for_one_of_a_hundred_classes_and_up_to_a_million_texts() -> None:
    millions = CorpusFacts(2_000_000, 150, 900, 0.0)
    experts = [chosen(ENGLISH, count)["model.expert"] for count in (0, 2, 100, 101)]
    assert experts == ["none", "linear", "linear", "none"]
    assert chosen(millions)["model.expert"] == "none"


def test_little_data_gives_a_larger_share_to_validation() -> None:
    assert (validation_fraction(9_999), validation_fraction(10_000)) == (0.1, 0.05)


def overrides(folder: Path, *more: str) -> list[str]:
    write_rows(folder / "train.jsonl", 90)
    files = ["data=files", f"data.train={folder / 'train.jsonl'}", f"data.cache_dir={folder / 'cache'}"]
    return [*files, "hardware=cpu", "hardware.precision=32-true", "logger=none", *more]


def built(folder: Path, *more: str) -> tuple[DictConfig, dict[str, str]]:
    run = build_run(lx.compose(overrides(folder, *more)), HARDWARE)
    return run.cfg, run.reasons


def test_every_auto_becomes_a_value_and_what_is_given_is_kept(tmp_path: Path) -> None:
    cfg, reasons = built(tmp_path, "model.dim=64", "trainer.max_epochs=3", "tokenizer.min_frequency=1")
    assert auto_keys(cfg) == []
    assert (cfg.model.dim, cfg.trainer.max_epochs, cfg.tokenizer.min_frequency) == (64, 3, 1)
    assert cfg.tokenizer._target_.endswith(".word") and cfg.tokenizer.vocab_size == 30_000
    assert cfg.model.pooling._target_.endswith(".MeanMaxPooling")
    assert not {"model.dim", "trainer.max_epochs"} & reasons.keys()
    assert reasons["model.conv_width"] == "81 rows" and reasons["data.validation_fraction"] == "90 rows"
    again, no_reasons = built(tmp_path, *[f"data.validation_fraction={cfg.data.validation_fraction}"])
    assert again.data == cfg.data and "data.validation_fraction" not in no_reasons
    assert len(list((tmp_path / "cache" / "corpus").glob("*/corpus.json"))) == 1  # read once


def test_learned_positions_are_as_many_as_the_data_chooses(tmp_path: Path) -> None:
    """Also where the configuration was written down with both ``auto``, and read again."""
    cfg = OmegaConf.create(resolved(lx.compose(overrides(tmp_path, "model/position=learned"))))
    chosen = build_run(cfg, HARDWARE).cfg
    assert chosen.model.position.max_length == chosen.data.max_length == 32


def test_characters_of_chinese_texts_have_no_min_frequency(tmp_path: Path) -> None:
    files = overrides(tmp_path)
    rows = [{"text": f"我们今天去看电影{chr(0x4E00 + i)}", "label": "ab"[i % 2]} for i in range(60)]
    (tmp_path / "train.jsonl").write_text(jsonl(rows), encoding="utf-8")
    cfg = build_run(lx.compose(files), HARDWARE).cfg
    assert cfg.tokenizer == {"_target_": "lx.data.tokens.recipes.char", "vocab_size": 16_000, "lowercase": True}
    with pytest.raises(LxError, match=r"tokenizer\.min_frequency: .*char"):
        build_run(lx.compose([*files, "tokenizer.min_frequency=1"]), HARDWARE)


def test_another_kind_of_model_gets_the_values_of_before(tmp_path: Path) -> None:
    cfg, reasons = built(tmp_path, "model=bag")
    plain = lx.compose(overrides(tmp_path, "model=bag", "recipe=plain"))
    assert {**cfg, "recipe": None, "data": None} == {**plain, "recipe": None, "data": None}
    assert reasons["trainer.max_epochs"] == "as recipe=plain"


def test_the_batches_of_little_data_are_no_larger_than_it(tmp_path: Path) -> None:
    files = overrides(tmp_path)
    write_rows(tmp_path / "train.jsonl", 40)
    for model in ("linear", "bag", "auto"):
        assert build_run(lx.compose([*files, f"model={model}"]), HARDWARE).cfg.data.batch_size < 40


def test_plain_needs_no_data_and_is_the_run_of_before() -> None:
    cfg = lx.compose(["recipe=plain"])
    assert auto_keys(cfg) == []
    explicit = ["model=small", "tokenizer=bpe", "data.batch_size=64", "data.max_length=128", "optimizer.lr=5e-4"]
    length = ["data.validation_fraction=0.05", "trainer.max_epochs=2"]
    before = resolved(lx.compose([*explicit, *length, "name=docstrings-auto"]))
    assert {**resolved(cfg), "recipe": {}} == before
    assert lx.compose(["recipe=plain", "data=imdb", "model=tiny"]).data.max_length == 512
    assert lx.compose(["recipe=plain", "optimizer=sgd"]).optimizer.lr != 5e-4
    assert lx.compose(["recipe=plain", "experiment=trec"]).trainer.max_epochs == 10


def test_a_recipe_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    file = tmp_path / "recipe" / "mine.yaml"
    file.write_text("model: {dim: 96, pooling: max}\n")
    cfg = lx.compose(["recipe=mine", "model.num_layers=3"], tmp_path)
    assert (cfg.model.dim, cfg.model.num_layers, cfg.model.num_heads) == (96, 3, "auto")
    assert cfg.model.pooling._target_ == "lx.nn.pooling.MaxPooling"
    file.write_text("trainer: {max_steps: 3}\n")
    with pytest.raises(LxError, match=r"recipe\.trainer\.max_steps"):
        lx.compose(["recipe=mine"], tmp_path)


def test_a_run_keeps_what_was_chosen(tmp_path: Path) -> None:
    more = ["trainer.max_steps=2", "trainer.limit_eval_batches=1", f"run_dir={tmp_path / 'run'}"]
    more += ["model/position=learned"]
    result = lx.train(lx.compose(overrides(tmp_path, *more)))
    run = Path(result.run_dir)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert auto_keys(OmegaConf.create(config)) == []
    assert json.loads((run / "recipe.json").read_text())["model.dim"] == "81 rows"
    assert lx.load(run, "cpu").predict(["bread onion soup"])

    prepare_run(lx.compose(overrides(tmp_path, *more, "resume=true")), [])  # the same command again
    assert yaml.safe_load((run / "resume.yaml").read_text()) == {**config, "resume": True}
    with pytest.raises(LxError, match=r"these settings differ: optimizer\.lr$"):
        prepare_run(lx.compose(overrides(tmp_path, *more, "resume=true", "optimizer.lr=0.5")), [])


def test_a_network_whose_embeddings_are_moved_is_not_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr("lx.training.builders.compile_for_all_lengths", compiled.append)
    small = ["model.dim=8", "model/expert=none", "hardware.compile=true"]
    with caplog.at_level("WARNING", logger="lx"):
        build_run(lx.compose(overrides(tmp_path, *small)), HARDWARE)
    assert not compiled and "hardware.compile=true is left out: model.adversarial" in caplog.text
    build_run(lx.compose(overrides(tmp_path, *small, "model.adversarial=null")), HARDWARE)
    assert len(compiled) == 1
