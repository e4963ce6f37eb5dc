"""Pause Python's cyclic garbage collector where there is nothing to collect."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Disable the cyclic garbage collector while the block runs."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def freeze_after_imports(freeze: bool = True) -> Iterator[None]:
    """Import large libraries with the collector paused, then exempt everything that exists from later collections.

    Do not ``freeze`` a process that is not lx's own, such as a notebook: then nothing is exempted.
    """
    with gc_paused():
        yield
        if freeze:
            gc.freeze()
