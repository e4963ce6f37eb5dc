from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lx.nn.block import PreNormBlock
from lx.nn.classifier import TransformerClassifier
from lx.nn.feedforward import GELUFeedForward
from lx.nn.norm import LayerNorm
from lx.nn.pooling import MeanPooling
from lx.nn.position import SinusoidalPosition


@pytest.fixture
def build() -> Callable[..., TransformerClassifier]:
    """A small classifier of fixed seed, with some options replaced."""

    def build_classifier(**overrides: Any) -> TransformerClassifier:
        torch.manual_seed(0)
        options: dict[str, Any] = {
            "vocab_size": 29,
            "num_outputs": 5,
            "num_token_types": 2,
            "dim": 12,
            "num_layers": 2,
            "num_heads": 3,
            "hidden_multiple": 4,
            "dropout": 0.1,
            "embedding_dim": None,
            "token_dropout": 0.0,
            "vectors": None,
            "freeze_vectors": False,
            "position": SinusoidalPosition,
            "norm": LayerNorm,
            "feedforward": GELUFeedForward,
            "block": PreNormBlock,
            "pooling": MeanPooling,
        }
        return TransformerClassifier(**options | overrides)

    return build_classifier
