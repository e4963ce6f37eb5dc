from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers

from lx.data.tokens import recipes as kinds
from lx.data.tokens.tokenizer import SPECIAL_TOKENS, Tokenizer, TokenizerSpec, train
from lx.errors import LxError

ENGLISH = ["The orbit of the comet, seen from the probe.", "Bread and butter; onion soup!", "the comet's orbit"]
CHINESE = ["彗星的轨道", "面包和黄油", "彗星很美,轨道很长", "洋葱汤很好喝"]
MIXED = ["Python 很好 ☕", "the 彗星 comet 🚀🚀", "かな and カナ"]
TEXTS = [*ENGLISH, *CHINESE, *MIXED] * 3

RECIPES: dict[str, Callable[[], TokenizerSpec]] = {
    "bpe": lambda: kinds.bpe(400, lowercase=True, min_frequency=2),
    "wordpiece": lambda: kinds.wordpiece(250, lowercase=True, min_frequency=2),
    "unigram": lambda: kinds.unigram(120, lowercase=True),
    "word": lambda: kinds.word(120, lowercase=True, min_frequency=1),
    "char": lambda: kinds.char(120, lowercase=True),
    "byte": lambda: kinds.byte(lowercase=False),
}


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {name: train(recipe(), lambda: TEXTS) for name, recipe in RECIPES.items()}


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """The tokens of a text, without [CLS] and [SEP]."""
    names = tokenizer.tokens()
    return [names[i] for i in tokenizer.encode([text], None, 512).token_ids[1:-1]]


@pytest.mark.parametrize("kind", RECIPES)
def test_special_tokens_and_template(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    assert tokenizer.tokens()[:4] == SPECIAL_TOKENS
    assert tokenizer.pad_id == 0
    assert len(tokenizer.tokens()) == tokenizer.vocab_size > tokenizer.largest_id
    one = tokenizer.encode(["comet"], None, 64)
    two = tokenizer.encode(["comet"], ["bread"], 64)
    bread = tokenizer.encode(["bread"], None, 64).token_ids.tolist()
    assert (one.token_ids[0], one.token_ids[-1]) == (2, 3)
    assert two.token_ids.tolist() == [*one.token_ids.tolist(), *bread[1:]]
    assert one.pair_lengths.tolist() == [0]
    assert two.pair_lengths.tolist() == [len(bread) - 1]


@pytest.mark.parametrize("kind", ["bpe", "byte"])
@pytest.mark.parametrize("text", [*TEXTS[:10], "never seen: ñ \u0000 𝕏 한국어", "a  b\tc\n"])
def test_bytes_know_everything(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    ids = tokenizer.encode([text], None, 512).token_ids
    assert 1 not in ids
    decoded = tokenizer.backend.decode(ids.tolist())
    normal = tokenizer.backend.normalizer.normalize_str(text)
    assert decoded.removeprefix(" ") == normal.removeprefix(" ")


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
@pytest.mark.parametrize("text", ["the orbit of the comet", "onion soup"])
def test_round_trip_of_words(kind: str, text: str, trained: dict[str, Tokenizer]) -> None:
    ids = trained[kind].encode([text], None, 64).token_ids
    assert trained[kind].backend.decode(ids.tolist()) == text


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("word", "彗星的 comet!", ["彗", "星", "的", "comet", "!"]),
        ("wordpiece", "彗星的轨道", ["彗", "星", "的", "轨", "道"]),
        ("char", "彗星 a", ["彗", "星", " ", "a"]),
        ("word", "THE Comet", ["the", "comet"]),
        ("word", "ｔｈｅ", ["the"]),  # full-width letters
        ("word", "unheard", ["[UNK]"]),
        ("char", "é", ["[UNK]"]),
    ],
)
def test_how_texts_are_split(kind: str, text: str, wanted: list[str], trained: dict[str, Tokenizer]) -> None:
    assert pieces(trained[kind], text) == wanted


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_frequent_chinese_words_become_pieces(kind: str) -> None:
    tokenizer = train({"bpe": kinds.bpe(300, True, 2), "unigram": kinds.unigram(40, True)}[kind], lambda: CHINESE * 9)
    assert len(pieces(tokenizer, "彗星")) < len("彗星".encode())
    assert (
        tokenizer.backend.decode(tokenizer.encode(["彗星的轨道"], None, 64).token_ids.tolist()).strip() == "彗星的轨道"
    )


def test_truncation(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["word"]
    encoded = tokenizer.encode(["the comet", "the orbit of the comet"], None, 5)
    assert encoded.lengths.tolist() == [4, 5]
    assert encoded.truncated.tolist() == [False, True]
    assert encoded.token_ids[-1] == 3
    pair = tokenizer.encode(["the orbit of the comet"], ["bread"], 6)
    assert pair.lengths.tolist() == [6]
    assert pair.pair_lengths.tolist() == [2], "the longer text is cut first"
    assert pair.token_ids[-2:].tolist() == tokenizer.encode(["bread"], None, 9).token_ids[1:].tolist()


def test_batches_are_flat_and_in_order(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["bpe"]
    together = tokenizer.encode(TEXTS, None, 64)
    alone = [tokenizer.encode([text], None, 64).token_ids.tolist() for text in TEXTS]
    assert together.token_ids.tolist() == [i for ids in alone for i in ids]
    assert together.lengths.tolist() == [len(ids) for ids in alone]
    assert tokenizer.encode([], None, 64).lengths.tolist() == []


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "word", "char", "byte"])
def test_training_is_deterministic(kind: str) -> None:
    assert train(RECIPES[kind](), lambda: TEXTS).to_json() == train(RECIPES[kind](), lambda: TEXTS).to_json()


@pytest.mark.parametrize("kind", RECIPES)
def test_training_leaves_the_recipe_as_it_was(kind: str) -> None:
    """The cache is keyed by the recipe: if training changed it, the tokenizer would be trained again in the run."""
    recipe = RECIPES[kind]()
    before = recipe.fingerprint()
    train(recipe, lambda: TEXTS)
    assert recipe.fingerprint() == before


def test_fingerprints_tell_recipes_apart_and_agree_across_processes() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_tokenizer as t; "
        "print(*(r().fingerprint() for r in t.RECIPES.values()), sep='\\0', end='')"
    )
    here = [recipe().fingerprint() for recipe in RECIPES.values()]
    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    assert there == here
    others = [kinds.bpe(401, True, 2), kinds.bpe(400, False, 2), kinds.bpe(400, True, 3)]
    assert len({*here, *(other.fingerprint() for other in others)}) == len(here) + 3


def test_a_saved_tokenizer_is_the_same(tmp_path: Path, trained: dict[str, Tokenizer]) -> None:
    for tokenizer in trained.values():
        (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
        again = Tokenizer.load(tmp_path / "tokenizer.json")
        assert (
            again.encode(TEXTS, TEXTS, 20).token_ids.tolist() == tokenizer.encode(TEXTS, TEXTS, 20).token_ids.tolist()
        )
        assert again.tokens() == tokenizer.tokens()


def test_padding_that_a_file_asks_for_is_left_to_the_batches(tmp_path: Path, trained: dict[str, Tokenizer]) -> None:
    content = json.loads(trained["word"].to_json())
    content["padding"] = {
        **{"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    encoded = Tokenizer.load(tmp_path / "tokenizer.json").encode(["the comet", "the"], None, 64)
    assert encoded.lengths.tolist() == [4, 3]


def test_pretrained_reads_a_file_or_a_folder(tmp_path: Path, trained: dict[str, Tokenizer]) -> None:
    (tmp_path / "tokenizer.json").write_text(trained["word"].to_json(), encoding="utf-8")
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        tokenizer = train(kinds.pretrained(str(path)), lambda: ["other texts"])
        assert tokenizer.to_json() == trained["word"].to_json()


@pytest.mark.parametrize(
    ("recipe", "needed"),
    [
        (lambda: kinds.wordpiece(8, True, 1), "12"),
        (lambda: kinds.unigram(8, True), "12"),
        (lambda: kinds.bpe(259, True, 1), "260"),
    ],
)
def test_a_vocabulary_below_the_alphabet_is_refused(recipe: Callable[[], TokenizerSpec], needed: str) -> None:
    with pytest.raises(LxError, match=f"smaller than the alphabet: .* at least {needed} "):
        train(recipe(), lambda: ["abc def", "g"])


@pytest.mark.parametrize(
    "content", ["{}", "no json", '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}']
)
def test_what_is_no_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(LxError, match="tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_text_of_which_nothing_is_left_is_still_an_example(trained: dict[str, Tokenizer]) -> None:
    content = json.loads(trained["word"].to_json())
    content["post_processor"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }

    bare = Tokenizer(tokenizers.Tokenizer.from_str(json.dumps(content)))
    assert bare.encode(["", "comet"], None, 64).lengths.tolist() == [1, 1]
