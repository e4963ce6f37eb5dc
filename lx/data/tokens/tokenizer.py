"""Tokenizers: text to the ids of words, pieces, characters or bytes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import processors

from lx.errors import LxError
from lx.system.gc import gc_paused
from lx.system.private_api import trainer_settings

PAD, UNK, CLS, SEP = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
SPECIAL_TOKENS = [PAD, UNK, CLS, SEP]  # ids 0, 1, 2, 3


@dataclass(frozen=True)
class Encoded:
    """Token ids of some texts, flat, one text behind the other."""

    token_ids: NDArray[np.int32]  # [sum of lengths]
    lengths: NDArray[np.int32]  # [texts]
    pair_lengths: NDArray[np.int32]  # [texts] how many of a text's last tokens belong to its pair
    truncated: NDArray[np.bool_]  # [texts] whether the text was longer than max_length

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """[texts] where in ``token_ids`` each text begins."""
        return np.cumsum(self.lengths, dtype=np.int64) - self.lengths

    def gather(self, rows: NDArray[np.int64], out: NDArray[np.int64]) -> None:
        """Copy the token ids of the texts ``rows`` [B] into a matrix [B, T] that is filled with the padding id."""
        for target, start, length in zip(out, self.starts[rows].tolist(), self.lengths[rows].tolist(), strict=True):
            target[:length] = self.token_ids[start : start + length]


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer that has not seen text yet, and how it is to be trained."""

    untrained: tokenizers.Tokenizer
    trainer: Any  # a trainer of the tokenizers library; None: there is nothing to learn
    seeds: Callable[[set[str]], list[str]] | None = None  # from the texts' alphabet: tokens that stand first

    def fingerprint(self) -> str:
        """Return a text that changes with everything that could change the trained tokenizer."""
        learning = None if self.trainer is None else trainer_settings(self.trainer)
        for settings in (learning or {}).values():
            if "initial_alphabet" in settings:
                settings["initial_alphabet"].sort()  # the library keeps it in no order
        return f"{tokenizers.__version__} {self.untrained.to_str()} {json.dumps(learning)}"


class Tokenizer:
    """A trained tokenizer: ``[CLS] text [SEP]``, or ``[CLS] text [SEP] pair [SEP]``."""

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        self.backend = backend
        self.backend.encode_special_tokens = True  # a text that spells [SEP] is text
        self.backend.no_padding()  # a tokenizer.json may ask for it; batches are padded elsewhere
        self.pad_id = next((i for t in (PAD, "<pad>") if (i := backend.token_to_id(t)) is not None), 0)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a ``tokenizer.json``; raise LxError if it is missing, or no such file."""
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
        """Return the content of a ``tokenizer.json``."""
        self.backend.no_truncation()
        return str(self.backend.to_str(pretty=False))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def largest_id(self) -> int:
        """The largest id that a text can get: of the vocabulary, or of the tokens that are put around every text."""
        around_texts = [*self.backend.encode("").ids, *self.backend.encode("", "").ids]
        return max(self.vocab_size - 1, self.pad_id, *around_texts)

    def tokens(self) -> list[str]:
        """Return every token, in the order of the ids."""
        names = [""] * self.vocab_size
        for token, index in self.backend.get_vocab(with_added_tokens=True).items():
            names[index] = token
        return names

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int) -> Encoded:
        """Encode texts, or pairs of texts, on all cores.

        Of each ``max_length`` tokens are kept, special tokens included; of a pair the longer text is cut first.
        """
        self.backend.enable_truncation(max_length)
        inputs = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        with gc_paused():  # a list for each text, and no cycle among them
            encodings = self._encode_batch(inputs)
            ids = [encoding.ids or [self.pad_id] for encoding in encodings]  # an empty text is still an example
            lengths = np.fromiter(map(len, ids), np.int32, len(ids))
            flat = np.fromiter(chain.from_iterable(ids), np.int32, int(lengths.sum()))
            pair_lengths = np.zeros(len(ids), np.int32)
            if pairs is not None:
                pair_lengths[:] = [sum(encoding.type_ids) for encoding in encodings]
            truncated = np.fromiter((len(encoding.overflowing) > 0 for encoding in encodings), np.bool_, len(ids))
        return Encoded(flat, lengths, pair_lengths, truncated)

    def _encode_batch(self, inputs: Sequence[Any]) -> list[tokenizers.Encoding]:
        try:
            encodings: list[tokenizers.Encoding] = self.backend.encode_batch_fast(inputs)
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of the library, which is no Exception
                raise LxError(f"the tokenizer failed on a text: {error}") from error
            raise
        return encodings


def train(spec: TokenizerSpec, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """Train a tokenizer on the texts of the training split, which ``texts`` gives anew at each call.

    Raises:
        LxError: the vocabulary cannot hold the alphabet of the texts.
    """
    backend = tokenizers.Tokenizer.from_str(spec.untrained.to_str())  # the spec stays untrained
    if spec.trainer is not None:
        trainer = copy.deepcopy(spec.trainer)  # a trainer remembers what it counted
        if spec.seeds is not None:
            alphabet: set[str] = set()
            for text in texts():
                alphabet.update(backend.normalizer.normalize_str(text))
            trainer.special_tokens = [*SPECIAL_TOKENS, *spec.seeds(alphabet)]
        backend.train_from_iterator(texts(), trainer)
        backend = _with_special_tokens_alone(backend)
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


def _with_special_tokens_alone(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """Return the same tokenizer with the tokens that training was seeded with as ordinary ones."""
    state = json.loads(backend.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL_TOKENS]
    return tokenizers.Tokenizer.from_str(json.dumps(state))
