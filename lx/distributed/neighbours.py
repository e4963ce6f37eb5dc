"""Connections between the ranks of one machine, for few numbers at a time.

gloo takes ten times as long for these: a thread of its own must first get one of the cores that compute.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import Tensor

from lx.errors import RanksLostError

_RANK_BYTES = 4


class Neighbours:
    """The other ranks of a run of which all are on this machine.

    Args:
        connections: of the first rank, to all others in their order; of another, to the first alone.
        is_first: whether this is the first rank, through which all numbers go.
    """

    def __init__(self, connections: list[socket.socket], is_first: bool) -> None:
        self._connections = connections
        self._is_first = is_first

    def reduce(self, values: Tensor, operation: Callable[..., Tensor]) -> None:
        """Put what all ranks have into one, in their order: the same bits on all of them.

        Args:
            values: on the CPU, contiguous; replaced by the result.
            operation: of two tensors, with an argument ``out``: ``torch.add`` or ``torch.maximum``.

        Raises:
            RanksLostError: one of them is gone.
        """
        own = _bytes_of(values)
        try:
            if self._is_first:
                other = torch.empty_like(values)
                for connection in self._connections:
                    _receive(connection, _bytes_of(other))
                    operation(values, other, out=values)
            for connection in self._connections:
                connection.sendall(own)
            if not self._is_first:
                _receive(self._connections[0], own)
        except OSError as error:
            raise RanksLostError("the connection to the other ranks broke") from error

    def part(self) -> None:
        """Close the connections."""
        for connection in self._connections:
            connection.close()


def meet(
    rank: int, world_size: int, scatter: Callable[[list[str]], str], smallest: Callable[[int], int]
) -> Neighbours | None:
    """Connect the ranks of one machine.

    Args:
        rank: of this process.
        world_size: how many there are.
        scatter: brings each rank the part that the first has for it.
        smallest: of what the ranks have.

    Returns:
        The connections; None, for all ranks, if one does not reach the first, as from a container of its own.
    """
    with ExitStack() as stack:
        own = stack.enter_context(socket.socket(socket.AF_UNIX))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="lx-")) if rank == 0 else ""
        is_open = rank > 0 or _succeeds(lambda: own.bind(f"{folder}/ranks"))
        if rank == 0 and is_open:
            own.listen(world_size)
        name = scatter([f"{folder}/ranks"] * world_size if rank == 0 else [])
        if smallest(int(is_open and (rank == 0 or _succeeds(lambda: own.connect(name))))) == 0:
            return None
        if rank > 0:
            own.sendall(rank.to_bytes(_RANK_BYTES, "little"))
            return Neighbours([socket.socket(fileno=own.detach())], is_first=False)
        accepted = [own.accept()[0] for _ in range(world_size - 1)]
        return Neighbours(sorted(accepted, key=_rank_of), is_first=True)


def _succeeds(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except OSError:
        return False
    return True


def _rank_of(connection: socket.socket) -> int:
    rank = bytearray(_RANK_BYTES)
    _receive(connection, memoryview(rank))
    return int.from_bytes(rank, "little")


def _bytes_of(values: Tensor) -> memoryview:
    return values.view(torch.uint8).numpy().data


def _receive(connection: socket.socket, into: memoryview) -> None:
    while into:
        count = connection.recv_into(into)
        if count == 0:
            raise ConnectionResetError
        into = into[count:]
