"""Text encoders of the transformers library, with the same `forward` as lx's own networks.

Axis legend: B batch, T tokens, D model width, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lx.errors import ArgumentError, LxError, first_line
from lx.nn.dropout import Dropout
from lx.nn.init import initialize
from lx.nn.pooling import Pooling, round_to

LOADING_KEYS = frozenset(
    {
        *("_attn_implementation", "attn_implementation"),
        *("_experts_implementation", "experts_implementation"),
        *("_name_or_path", "name_or_path", "auto_map", "transformers_version"),
        *("dtype", "torch_dtype", "quantization_config"),
    }
)
"""Keys of a transformers config that describe how and from where to load, not the model. Some of them can fetch code:
they are neither saved in a run nor read from one."""

FETCHING_MODELS = frozenset({"mra", "yoso"})
"""Model types whose construction fetches and compiles kernels."""


class PretrainedClassifier(nn.Module):
    """A pretrained encoder, pooling, and a fresh linear head."""

    def __init__(
        self,
        *,
        path: str,
        vocab_size: int,
        num_outputs: int,
        num_token_types: int = 1,
        dropout: int | float,
        pooling: Callable[..., Pooling],
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """Load or rebuild the encoder.

        Args:
            path: Directory in transformers' format, or a model's name on the Hugging Face Hub. Weights are read from
                safetensors files only, and code that comes with a model is never run.
            vocab_size: Number of token ids of the tokenizer.
            num_outputs: C.
            num_token_types: 2 if texts come in pairs.
            dropout: Before the head. The dropouts of the encoder are those of its config.
            pooling: Called as `pooling(D)`.
            config: From `architecture`. With it the encoder is built with random weights, and nothing is read or
                fetched.

        Raises:
            ArgumentError: There is no encoder at `path`, or it does not fit; or the pooling takes part in the last
                block.
            LxError: transformers is not installed.
        """
        super().__init__()
        self.encoder = load_encoder(path) if config is None else build_encoder(config)
        self.type_vocab_size = int(getattr(self.encoder.config, "type_vocab_size", None) or 0)
        check_encoder(self.encoder, path, vocab_size)
        # Token vectors are pooled here; the weights of the encoder's own pooler would never get a gradient.
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        dim = int(self.encoder.config.hidden_size)
        self.max_length = position_limit(self.encoder)
        self.pooling = pooling(dim)
        if self.pooling.needs_own_encoder:
            raise ArgumentError(
                "pooling=mean_query, or another that attends in the last block, needs lx's own encoder: "
                "choose mean, cls, max, mean_max or attention"
            )
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(self.pooling.output_dim, num_outputs)
        initialize(self.pooling)
        initialize(self.head)

    def architecture(self) -> dict[str, Any]:
        """Describe the encoder in plain values for JSON; pass them as `config` to build it again."""
        config = self.encoder.config.to_dict()
        return {key: value for key, value in config.items() if key not in LOADING_KEYS}

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Compute logits as :meth:`lx.nn.classifier.TransformerClassifier.forward` does.

        Token types are not passed to encoders without segments.

        Raises:
            LxError: There are more tokens than positions.
        """
        num_tokens = token_ids.shape[1]
        if self.max_length is not None and num_tokens > self.max_length:
            raise LxError(
                f"a text has {num_tokens} tokens, but the pretrained encoder has positions for {self.max_length}: "
                f"truncate texts to {self.max_length} tokens"
            )
        inputs = {"input_ids": token_ids.long(), "attention_mask": mask.long()}
        if token_types is not None and self.type_vocab_size > 1:
            inputs["token_type_ids"] = token_types.long()
        x = self.encoder(**inputs).last_hidden_state
        logits: Tensor = self.head(round_to(self.dropout(self.pooling(x, mask)), self.head))
        return logits


def import_transformers() -> Any:
    """Import the transformers library, an optional dependency; raise LxError where it is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise LxError("pretrained encoders need the transformers library: pip install 'lx[pretrained]'") from error
    return transformers


def load_encoder(path: str) -> Any:
    """Read an encoder's weights as float32; raise ArgumentError if there are none, or only such as could run code."""
    transformers = import_transformers()
    try:
        check_model_type(transformers.AutoConfig.from_pretrained(path, trust_remote_code=False).model_type)
        encoder = transformers.AutoModel.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
        return encoder.train()  # its dropouts are off as it is loaded, and Lightning leaves modes as they are
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise ArgumentError(
            f"path={path}: no encoder can be loaded from it, neither as a directory with config.json and "
            f"model.safetensors nor as a model's name on the Hugging Face Hub: {reason}"
        ) from error


def build_encoder(config: Mapping[str, Any]) -> Any:
    """Build an encoder with random weights from plain values alone; raise ArgumentError if they describe none."""
    transformers = import_transformers()
    plain = {key: value for key, value in config.items() if key not in LOADING_KEYS}
    model_type = plain.pop("model_type", None)
    check_model_type(model_type)
    try:
        encoder_config = transformers.AutoConfig.for_model(model_type, **plain)
        return transformers.AutoModel.from_config(encoder_config, trust_remote_code=False, dtype=torch.float32)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise ArgumentError(f"config describes no {model_type} encoder: {error}") from error


def check_model_type(model_type: str | None) -> None:
    """Raise LxError for all but text encoders, because some other models fetch files while they are built."""
    import_transformers()
    from transformers.models.auto import modeling_auto

    encoders = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() - FETCHING_MODELS
    if model_type not in encoders:
        raise LxError(
            f"a model of type {model_type!r} is not supported: choose a text encoder, "
            "such as bert, roberta, distilbert, deberta-v2, electra or modernbert"
        )


def check_encoder(encoder: Any, path: str, vocab_size: int) -> None:
    """Raise ArgumentError if an encoder has a decoder too, or fewer token ids than the tokenizer."""
    if encoder.config.is_encoder_decoder:
        raise ArgumentError(f"path={path}: {encoder.config.model_type} has a decoder: choose a model that only encodes")
    num_ids = encoder.get_input_embeddings().num_embeddings
    if num_ids < vocab_size:
        raise ArgumentError(
            f"path={path}: the encoder has {num_ids} token ids, the tokenizer {vocab_size}: "
            "use the tokenizer that belongs to the model (tokenizer=pretrained)"
        )


def position_limit(encoder: Any) -> int | None:
    """Return the number of positions if the encoder keeps them in a table, which may start behind a padding row."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
