"""The kinds of tokenizer, untrained.

Each function returns a :class:`lx.data.tokens.tokenizer.TokenizerSpec`. Every kind reads Chinese: bpe and byte work on
bytes, unigram on characters, and the kinds that need words first (word, wordpiece) take each Han character or kana
for a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

from lx.data.tokens.tokenizer import SPECIAL_TOKENS, UNK, Tokenizer, TokenizerSpec
from lx.errors import LxError, first_line

_TRAINER_SETTINGS: dict[str, Any] = {"special_tokens": SPECIAL_TOKENS, "show_progress": False}
_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}]"


def bpe(vocab_size: int, lowercase: bool, min_frequency: int) -> TokenizerSpec:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2, Radford et al. 2019): no unknowns."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _require_room("bpe", vocab_size, len(alphabet), "byte values")
    pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend = _tokenizer(models.BPE(unk_token=UNK), lowercase, pre_tokenizer, decoders.ByteLevel())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, initial_alphabet=alphabet, **_TRAINER_SETTINGS
    )
    return TokenizerSpec(backend, trainer)


def wordpiece(vocab_size: int, lowercase: bool, min_frequency: int) -> TokenizerSpec:
    """WordPiece as in BERT (Schuster and Nakajima 2012; Devlin et al. 2019)."""
    backend = _tokenizer(models.WordPiece(unk_token=UNK), lowercase, _words(), decoders.WordPiece())
    trainer = trainers.WordPieceTrainer(vocab_size=vocab_size, min_frequency=min_frequency, **_TRAINER_SETTINGS)

    def seeds(alphabet: set[str]) -> list[str]:
        """The pieces of one character; the library would number them in the order of a hash map, anew at each run."""
        _require_room("wordpiece", vocab_size, len(alphabet), "characters")
        return sorted(f"##{character}" for character in alphabet)

    return TokenizerSpec(backend, trainer, seeds)


def unigram(vocab_size: int, lowercase: bool) -> TokenizerSpec:
    """Unigram language-model pieces (Kudo 2018), spaces marked as in SentencePiece.

    The library's trainer sums in the order of a hash map, so two trainings may differ in a few pieces; a run keeps the
    one that it was trained with.
    """
    backend = _tokenizer(models.Unigram(), lowercase, pre_tokenizers.Metaspace(), decoders.Metaspace())
    trainer = trainers.UnigramTrainer(vocab_size=vocab_size, unk_token=UNK, **_TRAINER_SETTINGS)

    def seeds(alphabet: set[str]) -> list[str]:
        _require_room("unigram", vocab_size, len(alphabet), "characters")
        return []

    return TokenizerSpec(backend, trainer, seeds)


def word(vocab_size: int, lowercase: bool, min_frequency: int) -> TokenizerSpec:
    """Whole words and punctuation marks; each Han character or kana is a word."""
    backend = _tokenizer(models.WordLevel(unk_token=UNK), lowercase, _words())
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, min_frequency=min_frequency, **_TRAINER_SETTINGS)
    return TokenizerSpec(backend, trainer)


def char(vocab_size: int, lowercase: bool) -> TokenizerSpec:
    """Single characters (Unicode code points)."""
    backend = _tokenizer(models.WordLevel(unk_token=UNK), lowercase, _characters())
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size, min_frequency=1, **_TRAINER_SETTINGS)
    return TokenizerSpec(backend, trainer)


def byte(lowercase: bool) -> TokenizerSpec:
    """The bytes of UTF-8 text (Xue et al. 2022, ByT5): 256 of them and the special tokens, nothing to learn."""
    names = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    model = models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=UNK)
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend = _tokenizer(model, lowercase, pre_tokenizers.Sequence([to_bytes, _characters()]), decoders.ByteLevel())
    backend.add_special_tokens(SPECIAL_TOKENS)
    return TokenizerSpec(backend, None)


def pretrained(path: str | None) -> TokenizerSpec:
    """A tokenizer made elsewhere.

    Args:
        path: a ``tokenizer.json``, a directory that holds one, or a name on the Hugging Face Hub.

    Raises:
        LxError: nothing there, or the Hub cannot be reached.
    """
    if path is None:
        raise LxError("tokenizer.path is not set: give a tokenizer.json, a directory that holds one, or a Hub name")
    file = Path(path)
    if file.is_dir():
        file = file / "tokenizer.json"
    if file.exists():
        return TokenizerSpec(Tokenizer.load(file).backend, None)
    try:
        return TokenizerSpec(tokenizers.Tokenizer.from_pretrained(path), None)
    except Exception as error:  # the library raises bare Exception
        raise LxError(
            f"tokenizer.path={path}: no such file, and the Hub did not give it ({first_line(error)}); "
            "download its tokenizer.json and name that file"
        ) from error


def _tokenizer(
    model: models.Model,
    lowercase: bool,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
    decoder: decoders.Decoder | None = None,
) -> tokenizers.Tokenizer:
    """Assemble a tokenizer of Unicode's compatibility form (full-width letters become plain ones)."""
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])])
    backend.pre_tokenizer = pre_tokenizer
    if decoder is not None:
        backend.decoder = decoder
    return backend


def _characters() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")


def _words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_CJK), "isolated"), pre_tokenizers.Whitespace()])


def _require_room(kind: str, vocab_size: int, alphabet: int, what: str) -> None:
    needed = alphabet + len(SPECIAL_TOKENS)
    if vocab_size < needed:
        raise LxError(
            f"tokenizer.vocab_size={vocab_size} is smaller than the alphabet: {kind} needs at least {needed} "
            f"({alphabet} {what} and {len(SPECIAL_TOKENS)} special tokens) on these texts"
        )
