"""Checkpoint files: written atomically, with a checksum by which damage is found.

A checkpoint is what ``torch.save`` writes, a zip archive, with the SHA-256 of its bytes as the archive's comment, so
that any reader of torch's files reads it.
"""

from __future__ import annotations

import logging
import os
import pickle
import shlex
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from torch import Tensor

from lx.errors import LxError, TrainingError
from lx.run.directory import RunDirectory
from lx.system.files import as_argument, atomic_write, sync_directory

log = logging.getLogger(__name__)
_LABEL = b"sha256:"
_COMMENT = len(_LABEL) + 64
_LENGTH_FIELD = 2  # bytes of the last field of a zip archive, the length of the comment behind it
_CHUNK = 1 << 22


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint of plain containers and tensors atomically.

    Raises:
        TrainingError: it cannot be written; ``path`` is then as it was.
    """
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            hashing = _Hashing(file)
            torch.save(dict(content), hashing)  # type: ignore[arg-type]
            file.seek(-_LENGTH_FIELD, os.SEEK_END)
            file.write(_COMMENT.to_bytes(_LENGTH_FIELD, "little"))
            file.write(_LABEL + hashing.hash.hexdigest().encode())
    except (LxError, RuntimeError) as error:  # torch turns an OSError into the second
        cause = error if hashing.error is None else hashing.error
        raise TrainingError(
            f"cannot write the checkpoint {path}: {getattr(cause, 'strerror', None) or cause}; those from before are "
            f"whole: when there is room again, go on with lx resume {shlex.quote(as_argument(path.parent.parent))}"
        ) from error


class _Hashing:
    """A file that computes the hash of what is written to it, and keeps the error of a failed write."""

    def __init__(self, file: IO[bytes]) -> None:
        self.flush = file.flush
        self.hash = sha256()
        self.error: OSError | None = None
        self._file = file

    def write(self, data: bytes) -> int:
        """Write the data and add it to the hash."""
        try:
            self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(data)
        return memoryview(data).nbytes


def is_intact(path: Path) -> bool:
    """Return whether a file is a checkpoint whose checksum fits."""
    expected = sha256()
    with path.open("rb") as file:
        left = path.stat().st_size - _COMMENT - _LENGTH_FIELD
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            expected.update(chunk)
            left -= len(chunk)
        expected.update(bytes(_LENGTH_FIELD))  # the hash is that of the archive without its comment
        end = file.read()
    return end == _COMMENT.to_bytes(_LENGTH_FIELD, "little") + _LABEL + expected.hexdigest().encode()


def find_state(run: RunDirectory, data_fingerprint: str) -> tuple[Path | None, int]:
    """Find the training state to resume from and the number of optimizer steps it holds; None and 0 at the start.

    Raises:
        LxError: every state is damaged, or the data is not what the run began with.
    """
    if run.model.exists() and run.read_sizes().get("data") != data_fingerprint:
        raise LxError(
            f"the data is not what {run.path} was trained on: its texts, labels or tokens have changed since; bring "
            "the files back as they were, or train anew with another run_dir"
        )
    state = newest_intact(run)
    if state is None:
        return None, 0
    step = read_step(state)
    log.info("going on after step %d", step)
    return state, step


def newest_intact(run: RunDirectory) -> Path | None:
    """Return the newest intact training state, None if there is none yet; raise LxError if all are damaged."""
    states = [path for path in (run.last, run.previous) if path.exists()]
    for path in states:
        if is_intact(run.trusted(path)):
            return path
        log.warning("%s is damaged: its checksum does not fit; looking for the one before it", path)
    if states:
        raise LxError(
            f"all training states in {run.last.parent} are damaged: remove them to train from the start, "
            "or bring them back from a copy"
        )
    return None


def read_step(path: Path) -> int:
    """Return the step of a training state without reading its weights; raise LxError if it is not plain data."""
    content = load_plain(path, mmap=True)
    step = content.get("global_step") if isinstance(content, dict) else None
    if type(step) is not int:
        raise LxError(f"{path} is no training state of lx's")
    return step


def load_best(run: RunDirectory) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the best weights of a run, on the CPU, and what its task chose on that validation.

    Nothing in the file is executed: only tensors and plain containers load.

    Raises:
        LxError: missing, damaged, or not a checkpoint of plain data.
    """
    path = run.trusted(run.best)
    content = read_checkpoint(path)
    weights = content.get("weights") if isinstance(content, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise LxError(f"{path} holds no weights of lx's")
    choices = content.get("choices", {})
    if not isinstance(choices, dict):
        raise LxError(f"{path} holds choices that are none of lx's")
    return weights, choices


def read_checkpoint(path: Path) -> Any:
    """Load a checkpoint to the CPU.

    Raises:
        LxError: damaged, or not a checkpoint of plain data.
    """
    content = load_plain(path)
    if not is_intact(path):
        raise LxError(f"{path} is damaged: its checksum does not fit")
    return content


def load_plain(path: Path, mmap: bool = False) -> Any:
    """Load a file of tensors and plain containers to the CPU; raise LxError if it is damaged, or holds more."""
    _check_archive(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise LxError(
            f"{path} holds more than tensors and plain containers, and was not loaded: it could run code of its own"
        ) from error
    except Exception as error:  # torch's reader raises any error on a damaged file
        raise LxError(f"{path} is truncated or not a checkpoint ({type(error).__name__})") from error


def _check_archive(path: Path) -> None:
    """Raise LxError unless a file is an archive that unpacks to no more than its own size, as torch writes them."""
    try:
        with ZipFile(path) as archive:
            entries = archive.infolist()
    except (BadZipFile, OSError, NotImplementedError) as error:
        raise LxError(f"{path} is truncated or not a checkpoint ({type(error).__name__})") from error
    is_stored = all(entry.compress_type == ZIP_STORED for entry in entries)
    if not is_stored or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise LxError(f"{path} is compressed, and was not loaded: a checkpoint of lx's is not")


class CheckpointWriter:
    """Write checkpoints in a thread, one at a time; training waits for the write before, and while tensors are copied.

    Signals reach the main thread, so that none interrupts a write.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None

    def submit(self, content: Mapping[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Wait for the last write and raise its error; then copy ``content``, and ``write`` the copy in the thread."""
        self.wait()
        self._writing = self._thread.submit(write, _copied(dict(content)))

    def wait(self) -> None:
        """Wait until everything is on the disk; raise TrainingError if it could not be written."""
        if self._writing is not None:
            wait([self._writing])  # after a signal here the next call waits for the same write
            writing, self._writing = self._writing, None
            writing.result()


def write_training_state(run: RunDirectory, content: Mapping[str, Any]) -> None:
    """Write ``last.ckpt``, and keep the one before as ``previous.ckpt``.

    Raises:
        TrainingError: it cannot be written; the training states from before are still there.
    """
    newer = run.last.with_name("newer.ckpt")
    write_checkpoint(newer, content)
    # At every instant one of the two names holds an intact state.
    if run.last.exists():
        run.last.replace(run.previous)
    newer.replace(run.last)
    sync_directory(newer.parent)


def _copied(value: Any) -> Any:
    """Copy the tensors in nested containers to the CPU, out of training's reach."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    return type(value)(map(_copied, value)) if isinstance(value, list | tuple) else value
