"""What settings that are ``auto`` become: chosen by facts about the corpus. All numbers stand in :func:`choose`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from math import gcd
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lx.config.auto import AUTO_NODES, apply_recipe, auto_keys, fill, is_auto, option_of, plain_recipe
from lx.config.schema import DataSettings
from lx.config.validate import check_config
from lx.data.corpus.corpus import count_rows, load_corpus
from lx.data.corpus.facts import CorpusFacts, corpus_facts
from lx.data.corpus.labels import LabelEncoder
from lx.data.sources.base import Source

Settle = Callable[[str, Any, str], Any]
"""Called with a setting's key, a value and the reason for it: the setting's value from then on, given or chosen."""

_SMALL = 20_000  # rows below which regularisation counts for more than size
_MEDIUM = 100_000  # rows below which several narrow networks are better than a wide one
_LONGEST = 256
_MOST_ROWS_OF_EXPERT = 1_000_000
_MOST_OUTPUTS_OF_EXPERT = 100  # each is fitted by itself, some twenty times
_POOLINGS_OF_ONE_VECTOR = ("cls", "mean_query")
_TASKS_WITH_EXPERT = (".Classification", ".Multilabel", ".Regression")


def choose(facts: CorpusFacts, settle: Settle, *, expert_outputs: int) -> None:
    """Choose values for a Transformer that is trained from scratch.

    Args:
        facts: about the corpus.
        settle: takes each choice; one for a setting that was given has no effect.
        expert_outputs: classes or labels that a linear expert would learn, 1 for a number; 0: it cannot.
    """
    rows, is_small = f"{facts.rows:,} rows", facts.rows < _SMALL
    if facts.cjk_share > 0.3:
        tokenizer = settle("tokenizer", "char", "Han or kana")
    else:
        settle("tokenizer.vocab_size", 30_000, "spaces between words")
        tokenizer = settle("tokenizer", "word", "spaces between words")
    settle("data.max_length", max_length(facts, tokenizer), f"99% of the texts, in tokens of {tokenizer}")

    batch_size = settle("data.batch_size", min(32 if is_small else 64, facts.rows), rows)
    settle("trainer.max_epochs", num_epochs(facts.rows), rows)

    dim = settle("model.dim", 128 if facts.rows < _MEDIUM else 256, rows)
    # It was better by validation for classes of single texts, and worse for numbers of pairs.
    helps = is_small and expert_outputs > 1 and not facts.has_pairs
    adversarial = settle("model.adversarial", 0.1 if helps else None, rows)
    # An adversarial pass takes as long as another network for each.
    settle("model.num_members", 2 if adversarial or facts.rows >= _MEDIUM else 4, rows)
    settle("model.num_layers", 2, rows)
    settle("model.num_heads", gcd(dim, 4), f"{dim} wide")
    settle("model.conv_width", 3, rows)
    settle("model.position", "none", "the convolution sees the order")
    pooling = settle("model.pooling", "mean_max", rows)
    texts = "pairs of texts" if facts.has_pairs else "single texts"
    settle("model.compare_pairs", facts.has_pairs and pooling not in _POOLINGS_OF_ONE_VECTOR, f"{texts}, {pooling}")
    settle("model.dropout", 0.2 if is_small else 0.1, rows)
    settle("model.embedding_dropout", 0.3 if is_small else 0.1, rows)
    settle("model.head_dropout", 0.4 if is_small else 0.2, rows)
    # Rare words are [UNK] in training too; of other tokens all are known, and it is learned from dropped ones.
    settle("model.token_dropout", 0.0 if is_small and tokenizer == "word" else 0.1, rows)
    settle("model.embedding_std", 0.1, rows)
    has_expert = 0 < expert_outputs <= _MOST_OUTPUTS_OF_EXPERT and facts.rows <= _MOST_ROWS_OF_EXPERT
    many = expert_outputs > _MOST_OUTPUTS_OF_EXPERT
    settle("model.expert", "linear" if has_expert else "none", f"{expert_outputs:,} classes" if many else rows)
    settle("optimizer.lr", 1e-3 if dim < 256 else 5e-4, f"{dim} wide, batches of {batch_size}")


def num_epochs(num_rows: int) -> int:
    """The fewer texts, the more passes over them: 12 over 5,000, from 2 to 30."""
    return int(min(max(round(12 * (5000 / num_rows) ** 0.5), 2), 30))


def max_length(facts: CorpusFacts, tokenizer: str) -> int:
    """The length of 99% of the texts, with their special tokens, as a multiple of 8 from 32 to 256."""
    units = {"word": facts.words, "char": facts.characters, "byte": round(facts.characters * (1 + 2 * facts.cjk_share))}
    tokens = units.get(tokenizer, round(1.5 * facts.words)) + 3
    return min(max(-(-tokens // 8) * 8, 32), _LONGEST)


def validation_fraction(num_rows: int) -> float:
    """A tenth of little data, where a twentieth would be too few texts to tell one epoch from the next."""
    return 0.1 if num_rows < 10_000 else 0.05


def resolve(
    cfg: DictConfig,
    source: Source,
    label_encoder: Callable[..., LabelEncoder],
) -> tuple[DictConfig, dict[str, str]]:
    """Read the data and give every setting that is ``auto`` a value.

    Args:
        cfg: the configuration, which stays as it is.
        source: of the data.
        label_encoder: builds a label encoder from the class names that the source declares.

    Returns:
        The configuration with values, and for each setting that was ``auto`` the reason for its value.

    Raises:
        LxError: the data is refused, or a value does not go with those that were given.
    """
    if not auto_keys(cfg):
        return cfg, {}
    cfg = deepcopy(cfg)
    reasons: dict[str, str] = {}

    def settle(key: str, value: Any, reason: str) -> Any:
        if is_auto(cfg, key):
            fill(cfg, key, value)
            reasons[key] = reason
        if key in AUTO_NODES:
            return option_of(key, OmegaConf.select(cfg, f"{key}._target_", default=value))
        return OmegaConf.select(cfg, key, default=value)

    options = DataSettings(**{name: cfg.data[name] for name in DataSettings.__dataclass_fields__})
    if is_auto(cfg, "data.validation_fraction"):
        num_rows = count_rows(source, label_encoder(source.class_names), options, validation_fraction)
        fraction = settle("data.validation_fraction", validation_fraction(num_rows), f"{num_rows:,} rows")
        options = replace(options, validation_fraction=fraction)
    if auto_keys(cfg):
        corpus = load_corpus(source, label_encoder(source.class_names), options)
        facts = corpus_facts(corpus)
        if str(cfg.model._target_).endswith(".TransformerClassifier"):
            takes_expert = str(cfg.task._target_).endswith(_TASKS_WITH_EXPERT)
            num_outputs = len(corpus.label_set.get("class_names", [""]))
            choose(facts, settle, expert_outputs=num_outputs if takes_expert else 0)
        plain = plain_recipe()
        settle("data.batch_size", min(plain.data.batch_size, facts.rows), f"{facts.rows:,} rows")
        reasons |= dict.fromkeys(auto_keys(cfg), "as recipe=plain")
        apply_recipe(cfg, plain)
    check_config(cfg, cfg)
    return cfg, reasons
