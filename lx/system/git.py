"""The revision of the code that a run was started with."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_TIMEOUT_S = 10.0


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
            # Another git command may be at work in the same repository: take no lock for this look.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
