from __future__ import annotations

from pathlib import Path

import pytest

from support.bad_input import (
    GOOD,
)
from support.corpus import jsonl


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "good.jsonl").write_text(jsonl(GOOD))
    return tmp_path
