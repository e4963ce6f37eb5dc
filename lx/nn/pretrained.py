"""Any text encoder of the transformers library behind the same forward.

Axis legend: B batch, T tokens, D model width, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lx.errors import LxError
from lx.nn.dropout import Dropout
from lx.nn.init import initialize
from lx.nn.pooling import MeanQueryPooling, Pooling

LOADING_KEYS = frozenset(
    {
        *("_attn_implementation", "attn_implementation"),
        *("_experts_implementation", "experts_implementation"),
        *("_name_or_path", "name_or_path", "auto_map", "transformers_version"),
        *("dtype", "torch_dtype", "quantization_config"),
    }
)
"""Parts of a transformers config that say how and from where to load, not what the model is. Some of them can
fetch code, which is why they are neither saved in a run nor taken from one."""

FETCHING_MODELS = frozenset({"mra", "yoso"})
"""Models whose construction fetches and compiles kernels."""


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
            path: Directory in transformers' format, or a model's name on the Hugging Face Hub. Weights are
                read from safetensors files only, and code that comes with a model is never run.
            vocab_size: Number of token ids that the tokenizer makes.
            num_outputs: C.
            num_token_types: 2 if texts come in pairs.
            dropout: Before the head. The encoder's own dropouts are those of its config.
            pooling: Called as `pooling(D)`.
            config: What `architecture` returned earlier. With it the encoder is built with random weights,
                and nothing is read or fetched.

        Raises:
            LxError: transformers is not installed, no encoder at `path`, or one that does not fit; or a pooling that
                takes part in the last block.
        """
        super().__init__()
        self.encoder = load_encoder(path) if config is None else build_encoder(config)
        self.type_vocab_size = int(getattr(self.encoder.config, "type_vocab_size", None) or 0)
        check_encoder(self.encoder, path, vocab_size)
        # Token vectors are pooled here; unused weights would never get a gradient.
        if getattr(self.encoder, "pooler", None) is not None:
            self.encoder.pooler = None
        dim = int(self.encoder.config.hidden_size)
        self.max_length = position_limit(self.encoder)
        self.pooling = pooling(dim)
        if isinstance(self.pooling, MeanQueryPooling):
            raise LxError(
                "model/pooling=mean_query: its query attends in the last block of lx's own encoder, which a pretrained "
                "one does not let it do: choose mean, cls, max or attention"
            )
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(dim, num_outputs)
        initialize(self.pooling)
        initialize(self.head)

    def architecture(self) -> dict[str, Any]:
        """Everything needed to build the encoder again, as plain values for JSON; pass it as `config`."""
        described = self.encoder.config.to_dict()
        return {key: value for key, value in described.items() if key not in LOADING_KEYS}

    def forward(
        self,
        token_ids: Int[Tensor, "B T"],
        mask: Bool[Tensor, "B T"],
        token_types: Int[Tensor, "B T"] | None = None,
    ) -> Float[Tensor, "B C"]:
        """Classify texts.

        Args:
            token_ids: Ids of the encoder's own tokenizer.
            mask: True for a real token.
            token_types: Segment of each token; encoders that know no segments do not get them.

        Returns:
            Float[Tensor, "B C"]: Logits.

        Raises:
            LxError: More tokens than the encoder has positions for.
        """
        num_tokens = token_ids.shape[1]
        if self.max_length is not None and num_tokens > self.max_length:
            raise LxError(
                f"a text has {num_tokens} tokens, but the pretrained encoder has positions for "
                f"{self.max_length}: lower data.max_length to {self.max_length}"
            )
        inputs = {"input_ids": token_ids.long(), "attention_mask": mask.long()}
        if token_types is not None and self.type_vocab_size > 1:
            inputs["token_type_ids"] = token_types.long()
        x = self.encoder(**inputs).last_hidden_state
        logits: Tensor = self.head(self.dropout(self.pooling(x, mask)))
        return logits


def import_transformers() -> Any:
    """The transformers library, which is an optional dependency.

    Raises:
        LxError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise LxError("model=pretrained needs the transformers library: pip install 'lx[pretrained]'") from error
    return transformers


def load_encoder(path: str) -> Any:
    """Read an encoder's config and weights, as float32.

    Raises:
        LxError: There is none at `path`, or only one that could run code.
    """
    transformers = import_transformers()
    try:
        check_model_type(transformers.AutoConfig.from_pretrained(path, trust_remote_code=False).model_type)
        return transformers.AutoModel.from_pretrained(
            path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise LxError(
            f"model.path={path}: no encoder can be loaded from it, neither as a directory with config.json "
            f"and model.safetensors nor as a model's name on the Hugging Face Hub: {reason}"
        ) from error


def build_encoder(config: Mapping[str, Any]) -> Any:
    """Build an encoder with random weights from a plain description, reading nothing.

    Raises:
        LxError: It describes no encoder.
    """
    transformers = import_transformers()
    plain = {key: value for key, value in config.items() if key not in LOADING_KEYS}
    model_type = plain.pop("model_type", None)
    check_model_type(model_type)
    try:
        described = transformers.AutoConfig.for_model(model_type, **plain)
        return transformers.AutoModel.from_config(described, trust_remote_code=False, dtype=torch.float32)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise LxError(f"model.config describes no {model_type} encoder: {error}") from error


def check_model_type(model_type: str | None) -> None:
    """Let only text encoders pass, so that no other kind of model fetches its parts while it is built.

    Raises:
        LxError: Some other kind.
    """
    import_transformers()
    from transformers.models.auto import modeling_auto

    encoders = modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() - FETCHING_MODELS
    if model_type not in encoders:
        raise LxError(
            f"a model of type {model_type!r} is not supported: model=pretrained takes text encoders, "
            "such as bert, roberta, distilbert, deberta-v2, electra or modernbert"
        )


def check_encoder(encoder: Any, path: str, vocab_size: int) -> None:
    """Compare the encoder with what it is used for.

    Raises:
        LxError: It has a decoder, or fewer token ids than the tokenizer.
    """
    if encoder.config.is_encoder_decoder:
        kind = encoder.config.model_type
        raise LxError(f"model.path={path}: {kind} has a decoder: choose a model that only encodes")
    known = encoder.get_input_embeddings().num_embeddings
    if known < vocab_size:
        raise LxError(
            f"model.path={path}: the encoder knows {known} token ids, the tokenizer makes {vocab_size}: "
            "use the tokenizer that belongs to the model (tokenizer=pretrained)"
        )


def position_limit(encoder: Any) -> int | None:
    """Number of positions, where the encoder keeps them in a table; some start behind a padding row."""
    table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    if not isinstance(table, nn.Embedding):
        return None
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)
