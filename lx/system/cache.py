"""The cache folder: what is built once, and appears there whole or not at all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryDirectory

from lx.errors import LxError


def cache_home(folder: str | Path | None) -> Path:
    """Return ``folder``, else the one named by ``LX_CACHE``, else ``~/.cache/lx``."""
    return Path(folder or os.environ.get("LX_CACHE") or "~/.cache/lx").expanduser()


def digest(*parts: object) -> str:
    """A fingerprint of the parts' representations: equal parts, equal fingerprint, on every machine."""
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def build_once(final: Path, build: Callable[[Path], None]) -> Path:
    """Fill the folder ``final`` with ``build`` unless it is there already.

    The work is done in a temporary folder beside it and renamed at the end, so a killed or failed build
    leaves nothing half-made. Of several processes one builds, and the others wait for it; where files cannot be
    locked all build, and the first to finish wins. Returns ``final``.

    Raises:
        LxError: If the cache cannot be written.
    """
    if final.is_dir():
        return final
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _locked(final.with_name(f".{final.name}.lock")):
            if not final.is_dir():  # no other process has built it meanwhile
                _build(final, build)
    except OSError as error:
        raise LxError(
            f"the cache folder {final.parent} cannot be written: {error.strerror or error}. "
            "Set data.cache_dir=... or the environment variable LX_CACHE to a folder that can be"
        ) from error
    return final


def _build(final: Path, build: Callable[[Path], None]) -> None:
    with TemporaryDirectory(dir=final.parent, prefix=".building-", ignore_cleanup_errors=True) as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        build(made)
        try:
            made.rename(final)
        except OSError:
            if not final.is_dir():  # otherwise another builder was faster, with the same content
                raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait until no other process holds a file's lock, and hold it while the block runs; a dead process holds none."""
    with path.open("a") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
