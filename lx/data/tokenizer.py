"""Tokenizers: text to the ids of words, pieces, characters or bytes.

Each kind is a function that returns a :class:`Recipe`; :func:`train` turns it into a :class:`Tokenizer` by looking at
the training split alone. Every kind reads Chinese: bpe and byte work on bytes, unigram on characters, and the kinds
that need words first (word, wordpiece) take each Han character or kana for a word of its own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers

from lx.errors import LxError

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL_TOKENS = [PAD, UNK, CLS, SEP]  # ids 0, 1, 2, 3
_CJK = r"[\p{Han}\p{Hiragana}\p{Katakana}]"


@dataclass(frozen=True)
class Encoded:
    """Token ids of some texts, flat, one text behind the other."""

    token_ids: NDArray[np.int32]  # [sum of lengths]
    lengths: NDArray[np.int32]  # [texts]
    second: NDArray[np.int32]  # [texts] how many of a text's last tokens belong to its pair
    truncated: NDArray[np.bool_]  # [texts] whether the text was longer than max_length


@dataclass(frozen=True)
class Recipe:
    """A tokenizer that has not seen text yet, and how it is to be trained."""

    untrained: tokenizers.Tokenizer
    trainer: Any  # a trainer of the tokenizers library; None: there is nothing to learn
    check: Callable[[set[str]], None] | None = None  # refuses the alphabet of the normalised training texts

    def fingerprint(self) -> str:
        """Changes with whatever could change the trained tokenizer."""
        learning = None if self.trainer is None else json.loads(self.trainer.__getstate__())
        for settings in (learning or {}).values():
            if "initial_alphabet" in settings:
                settings["initial_alphabet"].sort()  # the library keeps it in no order
        return f"{tokenizers.__version__} {self.untrained.to_str()} {json.dumps(learning)}"


class Tokenizer:
    """A trained tokenizer: ``[CLS] text [SEP]``, or ``[CLS] text [SEP] pair [SEP]``."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self.backend = backend
        self.backend.no_padding()  # a tokenizer.json may ask for it; batches are padded elsewhere
        self.pad_id = next((i for t in (PAD, "<pad>") if (i := backend.token_to_id(t)) is not None), 0)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a ``tokenizer.json``.

        Raises:
            LxError: missing or not such a file.
        """
        if not path.is_file():
            raise LxError(f"no tokenizer file {path}")
        try:
            tokenizer = cls(tokenizers.Tokenizer.from_file(str(path)))
        except Exception as error:  # the library raises bare Exception
            raise LxError(f"{path} is not a tokenizer.json of the tokenizers library: {error}") from error
        if not tokenizer.backend.get_vocab_size():
            raise LxError(f"{path} is a tokenizer without tokens")
        return tokenizer

    def to_json(self) -> str:
        """The content of a ``tokenizer.json``."""
        self.backend.no_truncation()
        return str(self.backend.to_str(pretty=False))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def largest_id(self) -> int:
        """The largest id that a text can be given: of the vocabulary, or of what is put round every text."""
        round_texts = [*self.backend.encode("").ids, *self.backend.encode("", "").ids]
        return max(self.vocab_size - 1, self.pad_id, *round_texts)

    def tokens(self) -> list[str]:
        """Every token, at the place of its id."""
        names = [""] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            names[index] = token
        return names

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Encoded:
        """Encode texts, or pairs of texts, on all cores.

        Args:
            texts: what to encode.
            pairs: the second text of each, or None.
            max_length: tokens kept of each text, special tokens included; of a pair the longer text is cut first.
        """
        self.backend.enable_truncation(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        encodings = self.backend.encode_batch_fast(inputs)
        ids = [encoding.ids or [self.pad_id] for encoding in encodings]  # nothing left of a text is still an example
        lengths = np.fromiter(map(len, ids), np.int32, len(ids))
        flat = np.fromiter((i for row in ids for i in row), np.int32, int(lengths.sum()))
        second = np.zeros(len(ids), np.int32)
        if pairs is not None:
            second[:] = [sum(encoding.type_ids) for encoding in encodings]
        truncated = np.fromiter((len(encoding.overflowing) > 0 for encoding in encodings), np.bool_, len(ids))
        return Encoded(flat, lengths, second, truncated)


def train(recipe: Recipe, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Train a recipe on the texts of the training split.

    Args:
        recipe: what to train.
        texts: gives the training texts anew at each call.

    Raises:
        LxError: the vocabulary cannot hold the alphabet of the texts.
    """
    backend = tokenizers.Tokenizer.from_str(recipe.untrained.to_str())  # the recipe stays untrained
    if recipe.check is not None:
        recipe.check(set().union(*_normalised_chunks(backend, texts())))
    if recipe.trainer is not None:
        backend.train_from_iterator(texts(), copy.deepcopy(recipe.trainer))  # a trainer remembers what it counted
    if backend.post_processor is None:
        cls_id, sep_id = backend.token_to_id(CLS), backend.token_to_id(SEP)
        if cls_id is None or sep_id is None:
            raise LxError(f"the tokenizer has neither a post-processor nor the tokens {CLS} and {SEP}: choose another")
        backend.post_processor = processors.TemplateProcessing(
            single=f"{CLS} $A {SEP}",
            pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
            special_tokens=[(CLS, cls_id), (SEP, sep_id)],
        )
    return Tokenizer(backend)


def bpe(vocab_size: int, lowercase: bool, min_frequency: int) -> Recipe:
    """Byte-level byte-pair encoding (Sennrich et al. 2016; bytes as in GPT-2, Radford et al. 2019): no unknowns."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    _require_room("bpe", vocab_size, len(alphabet), "byte values")
    backend = tokenizers.Tokenizer(models.BPE(unk_token=UNK))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    return Recipe(backend, trainer)


def wordpiece(vocab_size: int, lowercase: bool, min_frequency: int) -> Recipe:
    """WordPiece as in BERT (Schuster and Nakajima 2012; Devlin et al. 2019)."""
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token=UNK))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = _words()
    backend.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=SPECIAL_TOKENS, show_progress=False
    )
    return Recipe(backend, trainer, lambda seen: _require_room("wordpiece", vocab_size, len(seen), "characters"))


def unigram(vocab_size: int, lowercase: bool) -> Recipe:
    """Unigram language-model pieces (Kudo 2018), spaces marked as in SentencePiece."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, unk_token=UNK, show_progress=False
    )
    return Recipe(backend, trainer, lambda seen: _require_room("unigram", vocab_size, len(seen), "characters"))


def word(vocab_size: int, lowercase: bool, min_frequency: int) -> Recipe:
    """Whole words and punctuation marks; each Han character or kana is a word."""
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token=UNK))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = _words()
    return Recipe(backend, _word_level_trainer(vocab_size, min_frequency))


def char(vocab_size: int, lowercase: bool) -> Recipe:
    """Single characters (Unicode code points)."""
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token=UNK))
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return Recipe(backend, _word_level_trainer(vocab_size, min_frequency=1))


def byte(lowercase: bool) -> Recipe:
    """The bytes of UTF-8 text (Xue et al. 2022, ByT5): 256 of them and the special tokens, nothing to learn."""
    names = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = tokenizers.Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token=UNK))
    backend.add_special_tokens(SPECIAL_TOKENS)
    backend.normalizer = _normalizer(lowercase)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return Recipe(backend, None)


def pretrained(path: str | None) -> Recipe:
    """A tokenizer made elsewhere.

    Args:
        path: a ``tokenizer.json``, a directory that holds one, or a name on the Hugging Face Hub.

    Raises:
        LxError: nothing there, or the Hub cannot be reached.
    """
    if path is None:
        raise LxError("tokenizer.path is not set: give a tokenizer.json, a directory that holds one, or a Hub name")
    place = Path(path)
    if place.is_dir():
        place = place / "tokenizer.json"
    if place.exists():
        return Recipe(Tokenizer.load(place).backend, None)
    try:
        return Recipe(tokenizers.Tokenizer.from_pretrained(path), None)
    except Exception as error:  # the library raises bare Exception
        raise LxError(
            f"tokenizer.path={path}: no such file, and the Hub did not give it ({str(error).splitlines()[0]}); "
            "download its tokenizer.json and name that file"
        ) from error


def _word_level_trainer(vocab_size: int, min_frequency: int) -> trainers.WordLevelTrainer:
    return trainers.WordLevelTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, special_tokens=SPECIAL_TOKENS, show_progress=False
    )


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    """Unicode's compatibility form (full-width letters become plain ones), case folded on request."""
    steps = [normalizers.NFKC(), *([normalizers.Lowercase()] if lowercase else [])]
    return normalizers.Sequence(steps)


def _words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_CJK), "isolated"), pre_tokenizers.Whitespace()])


def _normalised_chunks(backend: tokenizers.Tokenizer, texts: Iterable[str]) -> Iterator[set[str]]:
    for text in texts:
        yield set(backend.normalizer.normalize_str(text))


def _require_room(kind: str, vocab_size: int, alphabet: int, what: str) -> None:
    needed = alphabet + len(SPECIAL_TOKENS)
    if vocab_size < needed:
        raise LxError(
            f"tokenizer.vocab_size={vocab_size} is smaller than the alphabet: {kind} needs at least {needed} "
            f"({alphabet} {what} and {len(SPECIAL_TOKENS)} special tokens) on these texts"
        )
