"""Notice the end of another rank while this one waits inside NCCL, where neither exceptions nor signals arrive."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from threading import Thread

import torch
import torch.distributed as dist

from lx.system.processes import report_exit

_GRACE_S = 5.0  # for the main thread, which may have noticed, too, and has more to say


class PeerWatch:
    """Ends this process, wherever it is, when the connection to another rank breaks before :meth:`stop`.

    The first rank watches all others and they watch it, over sockets that carry nothing until then. Every rank must
    make one at the same time.
    """

    def __init__(self, rank: int, world_size: int, timeout: timedelta) -> None:
        self._group = dist.new_group(backend="gloo", timeout=timeout)
        self._peers = range(1, world_size) if rank == 0 else [0]
        self._threads = [Thread(target=self._end_with, args=[peer], daemon=True) for peer in self._peers]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop watching; every rank must call this."""
        for peer in self._peers:
            dist.send(torch.zeros(1), peer, group=self._group)
        for thread in self._threads:
            thread.join()

    def _end_with(self, peer: int) -> None:
        try:
            dist.recv(torch.zeros(1), peer, group=self._group)
        except RuntimeError:
            time.sleep(_GRACE_S)
            os._exit(report_exit(f"error: the connection to rank {peer} broke", 1, secondary=True))
