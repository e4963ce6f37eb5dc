"""``lx bench`` on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from lx.cli.main import main
from support.corpus import write_rows
from support.tiny_run import tiny


def test_a_benchmark(tmp_path: Path, device: torch.device) -> None:
    write_rows(tmp_path / "train.jsonl", 960)
    write_rows(tmp_path / "test.jsonl", 18, start=1000)
    overrides = tiny(tmp_path, f"hardware.accelerator={device.type}", "model.dim=64", "hardware.precision=bf16-mixed")
    overrides = [override for override in overrides if not override.startswith("run_dir")]
    assert main(["bench", "--rounds", "2", "--out", str(tmp_path / "report.json"), *overrides]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["tokens_per_second"] > 0 and 0 < report["utilisation"] < 1
    assert all(seconds > 0 for seconds in report["phases"].values())
    if device.type == "cuda":
        assert report["peak_memory"] < 200e6, "without the matrices whose products are timed"
