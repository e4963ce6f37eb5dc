from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from lx.distributed.neighbours import Neighbours, meet
from lx.errors import RanksLostError


@pytest.fixture
def ranks() -> Iterator[list[Neighbours]]:
    """Three of one process."""
    pairs = [socket.socketpair() for _ in range(2)]
    first = Neighbours([ours for ours, _ in pairs], is_first=True)
    found = [first, *(Neighbours([theirs], is_first=False) for _, theirs in pairs)]
    yield found
    for rank in found:
        rank.part()


@pytest.mark.parametrize(
    ("operation", "expected"), [(torch.add, [0.1 + 0.2 + 0.3, 30.0]), (torch.maximum, [0.3, 20.0])]
)
def test_all_ranks_get_the_same_bits(
    operation: Callable[..., torch.Tensor], expected: list[float], ranks: list[Neighbours]
) -> None:
    values = [torch.tensor(row, dtype=torch.float64) for row in ([0.1, 20.0], [0.2, -10.0], [0.3, 20.0])]
    threads = [
        threading.Thread(target=rank.reduce, args=(own, operation)) for rank, own in zip(ranks, values, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [own.tolist() for own in values] == [expected] * 3


@pytest.mark.parametrize("gone", [0, 1])
def test_a_rank_that_goes_is_missed(gone: int, ranks: list[Neighbours]) -> None:
    ranks[gone].part()
    with pytest.raises(RanksLostError, match="connection to the other ranks broke"):
        ranks[1 - gone].reduce(torch.zeros(2), torch.add)


def test_no_connections_where_one_rank_cannot_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = tmp_path / ("too-long-for-the-name-of-a-socket" * 4)
    far.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(far))
    assert meet(0, 2, scatter=lambda parts: parts[0], smallest=lambda value: value) is None
    assert not list(far.iterdir())
