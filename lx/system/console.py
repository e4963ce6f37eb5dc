"""Consoles for the standard streams.

Tables and commands go to standard output, progress and log lines to standard error, so that ``2>run.log`` keeps the two
apart. In a pipe there are no colour codes and lines are not wrapped at 80 columns.
"""

from __future__ import annotations

import sys

from rich.console import Console

_PIPE_WIDTH = 120


def console(stderr: bool = False) -> Console:
    """Build a console for standard output, or for standard error.

    On a terminal it is rich's default; else 120 columns wide and free of control codes, even if FORCE_COLOR is set.
    """
    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(stderr=stderr)
    return Console(stderr=stderr, width=_PIPE_WIDTH, force_terminal=False, color_system=None)
