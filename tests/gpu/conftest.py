"""Tests that need a GPU; ``$LX_TEST_DEVICE=cpu`` rehearses them on a CPU, as far as that shows anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

DEVICE = os.environ.get("LX_TEST_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, and skip them where there is no GPU."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if DEVICE == "cuda" and not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="needs a GPU that torch can use"))


@pytest.fixture
def device() -> torch.device:
    return torch.device(DEVICE)


@pytest.fixture
def cuda() -> None:
    """Skip a test of what only CUDA has in a rehearsal."""
    if DEVICE != "cuda":
        pytest.skip("only CUDA has this")
