"""The limits of a sweep: ``sweep.budget``, and ``sweep.max_bytes`` and ``sweep.max_latency`` of its runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.sweep.trials import Replicate

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(budget: str | int | None) -> float | None:
    """Convert a time such as ``90s``, ``30m`` or ``2h`` to seconds; None stays None.

    Raises:
        LxError: the text is no such time.
    """
    if budget is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", str(budget))
    if match is None or float(match[1]) <= 0:
        raise LxError(f"sweep.budget={budget}: a time is a number with s, m, h or d behind it, such as 30m")
    return float(match[1]) * _UNITS[match[2] or "s"]


def prediction_bytes(run: RunDirectory) -> int:
    """Return the size of what a prediction reads of a run: weights, expert and tokenizer."""
    return sum(path.stat().st_size for path in (run.best, run.linear, run.tokenizer) if path.exists())


def beyond_limits(replicate: Replicate, settings: Mapping[str, Any]) -> str:
    """Return a message on the limit that an ended run exceeds; the empty text if it exceeds none."""
    max_bytes, max_latency = settings["max_bytes"], settings["max_latency"]
    if max_bytes is not None and (size := prediction_bytes(replicate.run)) > max_bytes:
        return f"{size:,} bytes are more than sweep.max_bytes={max_bytes}"
    latency = replicate.outcome().latency
    if max_latency is not None and latency is not None and latency > max_latency:
        return f"a prediction takes {latency:.3g} ms, longer than sweep.max_latency={max_latency:g}"
    return ""
