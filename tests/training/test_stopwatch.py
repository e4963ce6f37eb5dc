"""How long a run has taken, over its sessions."""

from __future__ import annotations

import time

import pytest

from lx.training.callbacks.stopwatch import Stopwatch


def test_a_run_that_goes_on_counts_from_its_training_state(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    first = Stopwatch()
    now += 30
    saved = first.state_dict()
    now += 500  # lost work, and the time until someone resumes
    second = Stopwatch()
    now += 4
    second.load_state_dict(saved)
    assert second.seconds == 34
