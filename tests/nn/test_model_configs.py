"""Every file in conf/model composes and builds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import nn

from lx.config.instantiate import build_network

CONF = Path(__file__).parents[2] / "conf"
PRESETS = sorted(path.stem for path in (CONF / "model").glob("*.yaml") if not path.name.startswith("_"))
SIZES = {"tiny": (128, 2, 2), "small": (256, 4, 4), "base": (512, 8, 8), "large": (768, 12, 12)}
OPTIONS = sorted(
    f"{path.parent.name}={path.stem}"
    for path in (CONF / "model").rglob("*/*.yaml")
    if path.parent.name not in ("model", "expert") and path.stem != "auto"  # an expert stands beside the network
)
MAX_LENGTH = 13


@pytest.fixture
def compose_model(tmp_path: Path) -> Any:
    """Compose a model's node below a primary config that has nothing but a model, a tokenizer and a length."""
    (tmp_path / "primary.yaml").write_text(
        "defaults:\n  - _self_\n  - tokenizer: bpe\n  - model: small\n"
        f"data:\n  max_length: {MAX_LENGTH}\n"
        f"hydra:\n  searchpath: ['file://{CONF}']\n"
    )

    def composed(*overrides: str) -> DictConfig:
        with initialize_config_dir(str(tmp_path), version_base="1.3"):
            return compose("primary", overrides=list(overrides))

    return composed


def build(node: DictConfig) -> nn.Module:
    torch.manual_seed(0)
    net: nn.Module = build_network(node, vocab_size=37, num_outputs=5, num_token_types=2)
    return net


def check(net: nn.Module) -> None:
    token_ids = torch.randint(4, 37, (3, MAX_LENGTH))
    token_ids[1, 7:] = 0
    logits = net(token_ids, token_ids > 0, torch.zeros_like(token_ids))
    assert logits.shape == (3, 5) and logits.isfinite().all()


def test_the_files_are_there() -> None:
    assert {*SIZES, "auto", "bag", "pretrained", "linear"} == set(PRESETS)
    assert (
        sorted(
            [
                *(f"position={name}" for name in ("sinusoidal", "learned", "rotary", "alibi", "none")),
                *(f"norm={name}" for name in ("layernorm", "rmsnorm")),
                *(f"feedforward={name}" for name in ("relu", "gelu", "swiglu")),
                *(f"pooling={name}" for name in ("cls", "mean", "mean_query", "max", "mean_max", "attention")),
                *(f"block={name}" for name in ("prenorm", "postnorm")),
            ]
        )
        == OPTIONS
    )


@pytest.mark.parametrize("preset", [*SIZES, "bag"])
def test_presets_build(preset: str, compose_model: Any) -> None:
    cfg = compose_model(f"model={preset}")
    with torch.device("cpu" if preset in {"tiny", "small", "bag"} else "meta"):
        net = build(cfg.model)
    if preset in SIZES:
        dim, num_layers, num_heads = SIZES[preset]
        assert (cfg.model.dim, cfg.model.num_layers, cfg.model.num_heads) == SIZES[preset]
        assert len(net.encoder.blocks) == num_layers
        assert net.encoder.blocks[0].attention.num_heads == num_heads
        assert net.encoder.blocks[0].feedforward.input.weight.shape == (4 * dim, dim)
    if not any(parameter.is_meta for parameter in net.parameters()):
        check(net)


@pytest.mark.parametrize("option", OPTIONS)
def test_options_build(option: str, compose_model: Any) -> None:
    group, name = option.split("=")
    cfg = compose_model("model=tiny", f"model/{option}")
    target = cfg.model[group]._target_
    assert target.split(".")[-1].lower().startswith("no" if name == "none" else name.replace("_", ""))
    net = build(cfg.model)
    assert any(type(module).__name__ == target.split(".")[-1] for module in net.modules())
    check(net)


def test_learned_positions_follow_the_length_of_the_data(compose_model: Any) -> None:
    net = build(compose_model("model=tiny", "model/position=learned").model)
    assert net.encoder.position.table.num_embeddings == MAX_LENGTH
    net = build(compose_model("model=tiny", "model/position=learned", "model.position.max_length=17").model)
    assert net.encoder.position.table.num_embeddings == 17


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("model.dropout=0", lambda net: net.encoder.blocks[1].residual.dropout.p == 0),
        ("model.token_dropout=0.2", lambda net: net.encoder.embedding.token_dropout == 0.2),
        ("model.embedding_dim=7", lambda net: net.word_embedding.weight.shape == (37, 7)),
        ("model.hidden_multiple=2.5", lambda net: net.encoder.blocks[0].feedforward.input.out_features == 320),
        ("model.embedding_dropout=0", lambda net: net.encoder.dropout.p == 0),
        ("model.head_dropout=0.7", lambda net: net.dropout.p == 0.7),
        ("model.embedding_std=0.3", lambda net: net.word_embedding.scale == 1 and net.word_embedding.std == 0.3),
        ("model.conv_width=5", lambda net: net.encoder.convolution and net.encoder.convolution.width == 5),
        ("model.norm.eps=0.5", lambda net: net.encoder.norm.eps == 0.5),
        ("model.vectors=x.txt", lambda net: net.word_embedding.weight.requires_grad),
    ],
)
def test_knobs_arrive(override: str, read: Any, compose_model: Any) -> None:
    default, changed = build(compose_model("model=tiny").model), build(compose_model("model=tiny", override).model)
    assert read(changed)
    assert override.startswith("model.vectors") or not read(default)


def test_pretrained_brings_its_tokenizer(compose_model: Any, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=37, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=23
    )
    path = tmp_path / "bert"
    transformers.BertModel(config).save_pretrained(path)
    cfg = compose_model("model=pretrained", f"model.path={path}", "model/pooling=cls")
    assert cfg.tokenizer._target_ == "lx.data.tokens.recipes.pretrained"
    assert "tokenizer" not in cfg.model
    net = build(cfg.model)
    check(net)

    cfg.model.config = net.architecture()
    cfg.model.path = "/no/such/place"
    rebuilt = build(OmegaConf.create(OmegaConf.to_yaml(cfg.model)))
    check(rebuilt)
    assert rebuilt.architecture() == net.architecture()
    assert compose_model("model=pretrained", "tokenizer=word").tokenizer._target_ == "lx.data.tokens.recipes.word"
