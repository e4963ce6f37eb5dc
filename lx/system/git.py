"""The revision of the code that a run was started with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from threading import Timer

_TIMEOUT_S = 10.0
_DIFF_TIMEOUT_S, _LARGEST_DIFF = 2.0, 1 << 20  # bytes


def revision(directory: Path | None = None) -> str | None:
    """Name the commit that a directory (by default the working directory) is at.

    It has 40 digits, followed by ``-dirty`` if tracked files differ from it. None outside a repository, before its
    first commit, or where git is missing.
    """
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        answer = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=True,
            env=_environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None


def diff() -> bytes:
    """Return how tracked files differ from the commit of :func:`revision`, as a patch of at most 1 MiB.

    It is cut off there, or after 2 seconds, and empty where git has nothing to say.
    """
    command = ["git", "diff", "--no-color", "--no-ext-diff", "HEAD"]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()) as git:
            assert git.stdout is not None
            timer = Timer(_DIFF_TIMEOUT_S, git.kill)
            timer.start()
            patch = git.stdout.read(_LARGEST_DIFF)
            timer.cancel()
            git.kill()
    except OSError:
        return b""
    return patch


def _environment() -> dict[str, str]:
    """Another git command may be at work in the same repository: take no lock for a look."""
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
