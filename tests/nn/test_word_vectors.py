from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lx.errors import LxError
from lx.nn.bag import BagClassifier
from lx.nn.classifier import TransformerClassifier
from lx.nn.vectors import load_word_vectors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
GLOVE = """\
the 1 2 3
The 4 5 6
cat -1 0.5 2e-1
. . 7 7 7
paris 0 0 1
naïve 8 8 8
"""


def build(vocab_size: int, dim: int = 3) -> BagClassifier:
    torch.manual_seed(0)
    return BagClassifier(
        vocab_size=vocab_size,
        num_outputs=2,
        dim=dim,
        num_buckets=5,
        dropout=0.0,
        vectors=None,
        freeze_vectors=False,
    )


def load(path: Path, words: list[str]) -> tuple[BagClassifier, int, torch.Tensor]:
    """The model, how many words were found, and the rows from before."""
    net = build(len(SPECIAL) + len(words))
    before = net.word_embedding.weight.detach().clone()
    return net, load_word_vectors(net.word_embedding, path, SPECIAL + words, net.vectors_width_argument), before


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE, encoding="utf-8")
    return path


def check(net: BagClassifier, before: torch.Tensor, expected: list[list[float] | None]) -> None:
    """The rows are proportional to the file's, all by the same factor; the others are as they were."""
    rows = net.word_embedding.weight.detach()[len(SPECIAL) :]
    assert torch.equal(net.word_embedding.weight[: len(SPECIAL)], before[: len(SPECIAL)])
    found = [i for i, vector in enumerate(expected) if vector is not None]
    vectors = torch.tensor([vector for vector in expected if vector is not None], dtype=torch.float32)
    factor = before[1:].square().mean().sqrt() / vectors.square().mean().sqrt()
    torch.testing.assert_close(rows[found], vectors * factor)
    for i, vector in enumerate(expected):
        if vector is None:
            assert torch.equal(rows[i], before[len(SPECIAL) + i])


def test_exact_then_stripped_then_lower_case(glove: Path) -> None:
    words = ["The", "Ġthe", "▁cat", "##cat", "ĠParis", "THE", "dog", "naïve", ". ."]
    net, num_found, before = load(glove, words)
    the, cat = [1.0, 2.0, 3.0], [-1.0, 0.5, 0.2]
    check(net, before, [[4, 5, 6], the, cat, cat, [0, 0, 1], the, None, [8, 8, 8], [7, 7, 7]])
    assert num_found == 8


def test_the_better_spelling_wins_wherever_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 1 1\nThe 2 2 2\n▁The 3 3 3\n", encoding="utf-8")
    net, _, before = load(path, ["▁The", "ĠThe", "the"])
    check(net, before, [[3, 3, 3], [2, 2, 2], [1, 1, 1]])


def test_word2vec_header_trailing_space_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"2 3\ncat 1 2 3 \r\ndog 4 5 6 \n")
    net, num_found, before = load(path, ["dog", "cat", "2"])
    check(net, before, [[4, 5, 6], [1, 2, 3], None])
    assert num_found == 2


def test_special_tokens_and_no_match(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("[UNK] 1 2 3\n[PAD] 1 2 3\n", encoding="utf-8")
    net, num_found, before = load(path, ["dog"])
    assert torch.equal(net.word_embedding.weight, before)
    assert num_found == 0


def test_transformer_loads_into_its_own_width(glove: Path, build: Callable[..., TransformerClassifier]) -> None:
    net = build(embedding_dim=3, freeze_vectors=True, vectors=str(glove))
    assert load_word_vectors(net.word_embedding, glove, [*SPECIAL, "cat", "the"], "embedding_dim") == 2
    row = net.encoder.embedding.word.weight[4]
    torch.testing.assert_close(row / row[0], torch.tensor([1, -0.5, -0.2]))
    assert not net.word_embedding.weight.requires_grad
    with pytest.raises(LxError, match=r"^embedding_dim=3 .*glove.txt.* have 3 numbers.* have 12$"):
        load_word_vectors(build().word_embedding, glove, SPECIAL, "embedding_dim")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat 1 2\ndog 1 2\n", r"^dim=2 .*vectors.txt.* have 2 numbers.* have 3$"),
        ("2 4\ncat 1 2 3 4\n", r"^dim=4 is needed"),
        ("cat 1 2 3\ndog 1 2\n", r"vectors.txt:2: 2 numbers where 3 are expected"),
        ("cat 1 2 3\ndog 1 x 3\n", r"vectors.txt:2: 'x' is not a number"),
        ("1 3\ndog 1 nan 3\n", r"vectors.txt:2: 'nan' is not a number"),
        ("", r"vectors.txt: no word vectors"),
        ("2 3\n", r"vectors.txt: no word vectors"),
    ],
)
def test_malformed_files_are_refused_with_the_place(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(LxError, match=message):
        load(path, ["cat", "dog"])


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LxError, match=r"^vectors=.*absent.txt .*No such file"):
        load(tmp_path / "absent.txt", ["cat"])
    with pytest.raises(LxError, match=r"^vectors=.*directory"):
        load(tmp_path, ["cat"])
    broken = tmp_path / "broken.txt.gz"
    broken.write_bytes(gzip.compress(GLOVE.encode())[:-20])
    with pytest.raises(LxError, match=r"broken.txt.gz cannot be read"):
        load(broken, ["cat"])
    broken.write_bytes(b"cat 1 2 3")
    with pytest.raises(LxError, match=r"broken.txt.gz cannot be read"):
        load(broken, ["cat"])


def test_bytes_that_are_no_utf8_match_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"caf\xe9 1 2 3\ncat 4 5 6\n")
    net, num_found, before = load(path, ["café", "cat"])
    check(net, before, [None, [4, 5, 6]])
    assert num_found == 1
