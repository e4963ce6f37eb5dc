"""Open a page in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --dump-dom"
)

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")


def browse(page: Path, folder: Path) -> str:
    """Open a file and return the document as it is then; the browser's profile lies in the folder."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *_OPTIONS.split(), f"--user-data-dir={folder / 'profile'}", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
