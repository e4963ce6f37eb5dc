"""One tiny run through every stage, for a quick look before the whole suite: ``pytest tests/support/smoke.py``."""

from __future__ import annotations

from pathlib import Path

import lx
from lx.cli.main import main
from support.tiny_run import train_tiny


def test_a_tiny_run_trains_evaluates_and_predicts(tmp_path: Path) -> None:
    result = train_tiny(tmp_path)
    run = str(tmp_path / "run")
    assert result.status == "finished"
    assert 0 <= result.metrics["test/accuracy"] <= 1
    assert main(["eval", run, "hardware=cpu"]) == 0
    assert len(lx.load(run, "cpu").predict(["bread onion soup", "violin chord"])) == 2
    assert main(["resume", run, "trainer.max_epochs=+1"]) == 0
