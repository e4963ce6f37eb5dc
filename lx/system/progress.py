"""Show the progress of long work: a bar on a terminal, one log line elsewhere."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lx.system.output import escape

log = logging.getLogger(__name__)


@contextmanager
def track(description: str, total: int | None, unit: str = "") -> Iterator[Callable[[int], None]]:
    """Show progress on standard error while the block runs, of so many units if their number is known.

    Yields:
        A function to call with the number of units done since its last call.
    """
    if not sys.stderr.isatty():
        log.info("%s%s", description, "" if total is None else f" ({total:,} {unit})".replace(" )", ")"))
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from lx.system.console import console

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task(escape(description), total=total)
        yield lambda done: progress.advance(task, done)
