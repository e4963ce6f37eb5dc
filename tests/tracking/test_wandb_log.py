"""A W&B log that a killed client has left: what is whole stays, the rest is moved aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import wandb

from lx.tracking.wandb_log import cut_to_whole_records, holds_run


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log of several blocks, one of whose records is longer than a block."""
    folder = tmp_path_factory.mktemp("written")
    settings = wandb.Settings(console="off", x_disable_stats=True, silent=True)
    run = wandb.init(mode="offline", project="shelf", dir=folder, settings=settings)
    for number in range(300):
        run.log({"loss": number, "text": "a" * (100_000 if number == 150 else number)})
    run.finish()
    wandb.teardown()  # the client writes the end of its log after finish has returned, and before teardown does
    (log,) = folder.glob("wandb/offline-run-*/*.wandb")
    return log.read_bytes()


def test_a_whole_log_stays_as_it_is(written: bytes, tmp_path: Path) -> None:
    log = tmp_path / "run-a.wandb"
    log.write_bytes(written)
    cut_to_whole_records(log)
    assert log.read_bytes() == written
    assert holds_run(log)
    assert not (tmp_path / "unfinished").exists()


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_an_unfinished_record_is_moved_aside(share: float, written: bytes, tmp_path: Path) -> None:
    log = tmp_path / "run-a.wandb"
    log.write_bytes(written[: int(share * len(written))])
    cut_to_whole_records(log)
    whole, unfinished = log.read_bytes(), (tmp_path / "unfinished").read_bytes()
    assert written.startswith(whole + unfinished)
    assert len(whole + unfinished) == int(share * len(written))
    assert len(unfinished) < 101_000
    assert holds_run(log)
    cut_to_whole_records(log)
    assert log.read_bytes() == whole


def test_a_damaged_record_and_what_follows_are_moved_aside(written: bytes, tmp_path: Path) -> None:
    log = tmp_path / "run-a.wandb"
    log.write_bytes(written[:5000] + bytes([written[5000] ^ 1]) + written[5001:])
    cut_to_whole_records(log)
    assert 4000 < len(log.read_bytes()) <= 5000
    assert len(log.read_bytes() + (tmp_path / "unfinished").read_bytes()) == len(written)


@pytest.mark.parametrize("size", [0, 3, 7, 60, 120])
def test_a_client_that_was_killed_at_once(size: int, written: bytes, tmp_path: Path) -> None:
    log = tmp_path / "run-a.wandb"
    log.write_bytes(written[:size])
    cut_to_whole_records(log)
    assert not holds_run(log)
