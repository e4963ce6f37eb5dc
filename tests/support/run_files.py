"""What a run directory holds."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import torch


def rows(run: Path) -> list[dict[str, str]]:
    """Read metrics.csv, without the column that is read off a clock."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k != "tokens_per_second"} for row in csv.DictReader(file)]


def losses(run: Path) -> dict[int, float]:
    """Read the training loss of each step that has a row."""
    return {int(row["step"]): float(row["train/loss"]) for row in rows(run) if row["train/loss"]}


def result(run: Path) -> dict[str, Any]:
    """Read result.json."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return content


def has_finished(run: Path) -> bool:
    return (run / "result.json").exists() and result(run)["status"] == "finished"


def final_weights(run: Path) -> dict[str, torch.Tensor]:
    """Load the weights of last.ckpt."""
    weights: dict[str, torch.Tensor] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights


def assert_same_weights(run: Path, expected: Path) -> None:
    """Every bit of the weights."""
    found, weights = final_weights(run), final_weights(expected)
    assert list(found) == list(weights) != []
    assert [name for name, weight in weights.items() if not torch.equal(found[name], weight)] == []
