"""The benchmark measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lx
from lx.bench.benchmark import bench
from lx.bench.report import Report, show, write
from support.corpus import write_rows
from support.tiny_run import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def overrides(folder: Path) -> list[str]:
    write_rows(folder / "train.jsonl", 480)
    write_rows(folder / "test.jsonl", 18, start=1000)
    return tiny(folder)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    chosen = overrides(tmp_path_factory.mktemp("bench"))
    return bench(lx.compose([*chosen, "model.num_layers=2"]), steps=6, warmup=2, rounds=3)


def test_the_phases_make_up_a_step(report: Report) -> None:
    assert {"forward", "backward", "optimizer", "waiting for data", "logging", "everything else"} == set(report.phases)
    assert all(seconds > 0 for seconds in report.phases.values())
    tokens_of_a_step = report.tokens_per_second / report.examples_per_second * report.batch_size
    per_second = tokens_of_a_step / sum(report.phases.values())
    assert report.tokens_per_second / 4 < per_second < report.tokens_per_second * 4


def test_the_arithmetic_by_hand(report: Report) -> None:
    """A tiny model on short texts: utilisation is the arithmetic of a token times tokens a second, over the rate."""
    dim, hidden, layers, heads, classes = 8, 32, 2, 2, 3
    attention = dim * 3 * dim + 3 * dim + dim * dim + dim
    feedforward = dim * hidden + hidden + hidden * dim + dim
    block = attention + feedforward + 2 * 2 * dim
    others = (layers - 1) * block + 2 * dim + dim * classes + classes
    # One query a text meets the last block's weights; there each token has but a score and a weight in each head.
    lowest, highest = (
        6 * others + 6 * block / longest + 12 * (layers - 1) * dim * shortest + 12 * heads * dim
        for shortest, longest in ((3, 16), (16, 3))
    )
    rounds = zip(report.rounds["lx"], report.matmul_rounds, strict=True)
    of_a_token = [report.utilisation * rate / speed for speed, rate in rounds]  # right for the round in the middle
    assert any(lowest < flops < highest for flops in of_a_token)
    assert min(report.matmul_rounds) <= report.matmul_flops <= max(report.matmul_rounds)


def test_the_report_as_table_and_json(report: Report, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(report)
    assert "utilisation" in capsys.readouterr().out
    write(report, tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert len(content["rounds"]["lx"]) == 3
    assert content["tokens_per_second"] == sorted(content["rounds"]["lx"])[1]
    assert 0 <= content["padding"] < 0.2
    assert content["peak_memory"] > 1e8
