"""The table at the start of a run."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import lx
from lx.distributed.rank_info import RankInfo
from lx.system.hardware import Hardware
from lx.training.builders import build_run
from lx.training.display import start_table
from support.tiny_run import tiny, write_rows


def rows_of_table(folder: Path, *overrides: str, num_ranks: int = 1) -> dict[str, str]:
    cfg = lx.compose(tiny(folder, "name='a [run]'", *overrides))
    hardware = Hardware("cpu", "32-true", "[CPU]", 1)
    built = build_run(cfg, hardware)
    assert built.data.source is not None
    file = io.StringIO()
    rank_info = replace(RankInfo(), world_size=num_ranks)
    Console(file=file, width=120, markup=False).print(start_table(built, hardware, rank_info, built.reasons))
    lines = file.getvalue().splitlines()
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines if line.startswith("│")]
    return {"title": lines[0].strip(), **dict(cells)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    texts = write_rows(folder / "train.jsonl", 1_048).read_text().splitlines(keepends=True)
    write_rows(folder / "test.jsonl", 18, start=2_000)
    with (folder / "test.jsonl").open("a") as file:
        file.write(texts[0])  # stands in both
    return folder


def test_start_table(folder: Path) -> None:
    shown = rows_of_table(folder, "trainer.max_epochs=3", "data.max_length=5", num_ranks=3)
    truncated = shown.pop("truncated")
    assert shown == {
        "title": "a [run]",
        "data": f"{folder}/train.jsonl",
        "rows": "train 996, validation 52, test 19",
        "labels": "3 classes",
        "duplicates": "1 training texts stand in another split too",
        "model": "TransformerClassifier, 1,043 parameters, 16 pieces",
        "hardware": "[CPU], 32-true, 3 x 1 thread",
        "batch": "8 examples a step, 3 at a time",
        "steps": "3 epochs of 125 steps, 375 in total",
    }
    share, rest = truncated.split("% ")
    assert 50 < float(share) < 90
    assert rest == "of the training texts, at 5 tokens"


def test_a_micro_batch_is_shown_and_a_length_in_steps(folder: Path) -> None:
    shown = rows_of_table(folder, "hardware.micro_batch=2", "trainer.max_steps=1")
    assert shown["batch"] == "8 examples a step, 2 at a time"
    assert shown["steps"] == "1 epoch of 125 steps, 1 in total"
