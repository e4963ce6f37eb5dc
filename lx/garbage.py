"""Python's search for garbage, which goes through all objects again and again, kept from where there is none."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def unsought() -> Iterator[None]:
    """Let Python not look for garbage meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def importing(*, for_good: bool) -> Iterator[None]:
    """Import large libraries.

    Args:
        for_good: the process is one of lx's own, and keeps all that is there now until it ends. Then it is looked
            through no more, not even at the end, where Python would do so several times.
    """
    with unsought():
        yield
        if for_good:
            gc.freeze()
