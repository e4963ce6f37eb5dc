"""Decide which of several workers runs which run of a sweep: by claims, files beside the runs.

One worker at a time chooses what to run next, or records how a run ended: it holds the sweep's lock
(:meth:`Claims.exclusive`). While a run trains, its claim names its worker. The kernel releases lock and claims when
their process dies. Machines that share a sweep need a file system whose locks hold between them, as those of NFS do.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lx.launch.slurm_node import slurm_dir
from lx.run.lock import in_use
from lx.sweep.trials import Replicate

_BEAT_S = 10.0  # between two heartbeats
DEAD_S = 60.0
"""Seconds without a heartbeat after which another machine takes over a claim, measured by that machine's clock."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass
class _Heartbeat:
    """The last heartbeat seen on another machine's claim."""

    mtime_ns: int  # of the file
    seen_at: float  # when this process first saw that time, on its monotonic clock


class Claims:
    """The claims of one worker, and its view of those of others.

    A claim is ``claim.json`` in the trial's directory (``seed-3.claim.json`` for one of several seeds): host, process
    and worker. The file's modification time is the heartbeat. The worker also holds a lock on the file, so that its own
    machine sees at once that it has died. Other machines wait until the heartbeat has not changed for ``DEAD_S``
    seconds of their own clock, so that no clocks are compared.

    Args:
        directory: of the sweep.
        machine: identifies this machine; None: by its boot, see :func:`_machine`.
    """

    def __init__(self, directory: Path, machine: str | None = None) -> None:
        self._lock = directory / ".lock"
        self._machine = machine or _machine()
        self._worker = secrets.token_hex(8)
        self._held: dict[Path, IO[str]] = {}
        self._heartbeats: dict[Path, _Heartbeat] = {}
        self._last_beat = time.monotonic()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for the sweep's lock, and hold it while the block runs: no other worker chooses or records then."""
        with self._lock.open("a") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def take(self, replicate: Replicate) -> bool:
        """Claim a run, under :meth:`exclusive`; return False if a living worker holds it, or a process trains it."""
        path = _claim(replicate)
        is_job = slurm_dir(replicate.run).exists()  # a Slurm job outlives its worker: the next one adopts it
        if path in self._held or (in_use(replicate.run) and not is_job):
            return False
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            return False
        if _owner(file).get("machine", self._machine) != self._machine and self._beats(path):
            file.close()
            return False
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "machine": self._machine, "worker": self._worker}
        file.truncate(0)
        file.write(json.dumps(owner) + "\n")
        file.flush()
        self._held[path] = file
        return True

    def _beats(self, path: Path) -> bool:
        """Whether another machine's claim is alive: its heartbeat was first seen less than ``DEAD_S`` seconds ago."""
        mtime_ns = path.stat().st_mtime_ns
        last = self._heartbeats.get(path)
        if last is None or last.mtime_ns != mtime_ns:
            self._heartbeats[path] = last = _Heartbeat(mtime_ns, time.monotonic())
        return time.monotonic() - last.seen_at < DEAD_S

    def beat(self) -> bool:
        """Give the claims of this worker a heartbeat, if it is time for one; return whether it was."""
        if time.monotonic() - self._last_beat < _BEAT_S:
            return False
        self._last_beat = time.monotonic()
        for path, file in self._held.items():
            if self._owns(file):
                os.utime(path)
        return True

    def holds(self, replicate: Replicate) -> bool:
        """Return whether a run is still this worker's: without heartbeats for too long, another takes it over."""
        return self._owns(self._held[_claim(replicate)])

    def _owns(self, file: IO[str]) -> bool:
        return _owner(file).get("worker") == self._worker

    def release(self, replicate: Replicate) -> bool:
        """Give up a claim, under :meth:`exclusive`; return whether it was still held."""
        path = _claim(replicate)
        with self._held.pop(path) as file:
            if owned := self._owns(file):
                path.unlink()
        return owned


def _claim(replicate: Replicate) -> Path:
    return replicate.output.with_name(replicate.output.name.replace("output.txt", "claim.json"))


def _owner(file: IO[str]) -> dict[str, str]:
    """Return the content of a claim; empty if its writer died while it wrote.

    Reads through the file that holds the lock: if the process opened and closed it once more, the lock would be lost.
    """
    try:
        file.seek(0)
        owner: dict[str, str] = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return owner


def _machine() -> str:
    """Identify this machine and its boot: processes of an earlier boot are dead."""
    try:
        return _BOOT_ID.read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()
