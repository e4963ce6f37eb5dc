"""An interrupted run goes on to the same weights, bit for bit, and the same record."""

from __future__ import annotations

import functools
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

import lx
from lx.cli.main import main
from lx.data.batches import Batch
from lx.errors import LxError
from lx.launch import local
from lx.run.checkpoint import read_step, write_checkpoint
from lx.run.directory import RunDirectory
from lx.run.lock import in_use, locked, require_idle
from lx.run.resume_config import apply_resume_overrides
from lx.training.module import TextClassifier
from lx.training.worker import train_in
from support.corpus import write_rows
from support.run_files import result, rows
from support.tiny_run import tiny

BY_LOSS = ["objective.metric=val/loss", "objective.mode=min"]
SAVE = "trainer/save_every_n_steps"
AUTO = {"hardware/precision": "auto", "hardware/threads": None}  # what tiny() sets is the group's own again
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]
# Epochs have 6 steps, runs 3 epochs, and every second step is saved, unless a setting says otherwise.
# Name: settings; a step that is validated after; the last step.
SETTINGS: dict[str, tuple[list[str], int, int]] = {
    "average": (["trainer.ema_decay=0.9"], 12, 18),
    "three best": (["trainer.keep_best=3", "trainer.val_check_interval=4", *BY_LOSS], 8, 18),
    "an odd length": (["trainer.max_steps=17", "trainer.val_check_interval=5", "trainer.save_every_n_steps=3"], 10, 17),
    "a share of an epoch": (["trainer.val_check_interval=0.4", "trainer.max_epochs=2"], 8, 12),
    "validation after two epochs": (["trainer.check_val_every_n_epoch=2"], 12, 18),
    "limits": (["trainer.limit_train_batches=5", "trainer.max_epochs=4", "trainer.limit_eval_batches=1"], 10, 20),
    "early stopping": (["trainer.early_stopping_patience=1", "optimizer.lr=1e-9", "trainer.max_epochs=9"], 12, 12),
    "two workers": (["hardware.num_workers=2"], 12, 18),
    "neither schedule nor clipping": (
        ["scheduler=constant", "optimizer=muon", "trainer.gradient_clip_val=null"],
        12,
        18,
    ),
    "saved before validations alone": (["trainer.save_every_n_steps=null"], 12, 18),
}
FAST_SETTINGS = ("average", "early stopping")
# What the clock and the name of the directory decide.
VOLATILE = ("/elapsed", "/seconds", "/run_dir", "/best_checkpoint")


class InterruptedTrainingError(Exception):
    pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, and a cache that all runs share."""
    place = tmp_path_factory.mktemp("place")
    write_rows(place / "train.jsonl", 50)
    write_rows(place / "test.jsonl", 18, start=100)
    return place


def prepared(place: Path, name: str, *overrides: str) -> RunDirectory:
    settings = ["logger=csv", "trainer.log_every_n_steps=4", "trainer.save_every_n_steps=2"]
    if not any(override.startswith("trainer.max_steps=") for override in overrides):
        settings.append("trainer.max_epochs=3")
    return local.prepare_run(lx.compose(tiny(place, f"run_dir={place / name}", *settings, *overrides)), [])


def interrupt(run: RunDirectory, hook: str, step: int) -> None:
    """Train until a hook is called after some step, and let it raise."""
    original = getattr(TextClassifier, hook)

    @functools.wraps(original)
    def interrupting(self: TextClassifier, *arguments: Any) -> Any:
        if self.trainer.global_step == step:
            raise InterruptedTrainingError
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TextClassifier, hook, interrupting)
        with pytest.raises(InterruptedTrainingError):
            train_in(run)
    assert run.read_result().status == "failed"


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and text in nested containers by its name; tensors as bytes."""
    if isinstance(value, dict | list | tuple) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(part, f"{name}/{key}")
    elif isinstance(value, Tensor):
        yield name, (value.dtype, value.shape, value.numpy().tobytes())
    else:
        yield name, value


def outcome(run: RunDirectory) -> dict[str, Any]:
    """All that a run leaves behind."""
    checkpoints = {path.name: torch.load(path) for path in sorted(run.last.parent.glob("*.ckpt"))}
    found = flat({**result(run.path), "metrics.csv": rows(run.path), **checkpoints})
    return {name: value for name, value in found if not name.endswith(VOLATILE)}


def assert_equal(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert sorted(key for key in {**found, **wanted} if found.get(key, ...) != wanted.get(key, ...)) == []
    assert len(wanted) > 100


@pytest.fixture(scope="module")
def uninterrupted(place: Path) -> Callable[..., dict[str, Any]]:
    @functools.cache
    def train(*overrides: str) -> dict[str, Any]:
        run = prepared(place, f"whole-{len(list(place.iterdir()))}", *overrides)
        train_in(run)
        return outcome(run)

    return train


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("training_step", 0, None),
        ("training_step", 1, None),
        ("training_step", 9, 8),
        ("training_step", 11, 10),
        ("on_validation_start", 12, 12),
        ("validation_step", 12, 12),
        ("on_validation_epoch_end", 12, 12),
        ("training_step", 12, 12),
        ("validation_step", 18, 18),
        ("test_step", 18, 18),
    ],
)
def test_an_interruption_leaves_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], hook: str, step: int, saved: int | None
) -> None:
    run = prepared(place, f"{hook}-{step}")
    interrupt(run, hook, step)
    assert saved == (read_step(run.last) if run.last.exists() else None)
    train_in(run)
    assert_equal(outcome(run), uninterrupted())


@pytest.mark.parametrize(
    "name",
    [name if name in FAST_SETTINGS else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS],
)
def test_many_interruptions_leave_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], name: str
) -> None:
    overrides, validated, last = SETTINGS[name]
    run = prepared(place, name, *overrides)
    for hook, step in [("training_step", 5), ("training_step", 7), ("validation_step", validated), ("test_step", last)]:
        interrupt(run, hook, step)
    train_in(run)
    assert run.read_result().steps == last
    assert_equal(outcome(run), uninterrupted(*overrides))


def test_an_interruption_between_skipped_updates_leaves_no_trace(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = TextClassifier.forward

    def poisoned(self: TextClassifier, batch: Batch) -> Tensor:
        logits = forward(self, batch)
        return logits * math.nan if self.training and self.trainer.global_step in (4, 10, 13) else logits

    monkeypatch.setattr(TextClassifier, "forward", poisoned)
    run = prepared(place, "skipped", "trainer.on_nan=skip")
    interrupt(run, "training_step", 9)
    interrupt(run, "training_step", 14)
    train_in(run)
    found = outcome(run)
    assert found["/last.ckpt/skipped_updates"] == 3
    assert_equal(found, uninterrupted("trainer.on_nan=skip"))


def test_a_damaged_state_costs_the_steps_since_the_one_before(
    place: Path, uninterrupted: Callable[..., dict[str, Any]]
) -> None:
    run = prepared(place, "damaged")
    interrupt(run, "training_step", 11)
    run.last.write_bytes(run.last.read_bytes()[:-1])
    train_in(run)
    assert "last.ckpt is damaged" in run.log.read_text()
    assert "going on after step 8" in run.log.read_text()
    assert_equal(outcome(run), uninterrupted())


def test_changed_data_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", 50)
    write_rows(tmp_path / "test.jsonl", 18, start=100)
    run = prepared(tmp_path, "run")
    interrupt(run, "training_step", 9)
    write_rows(tmp_path / "train.jsonl", 51)
    with pytest.raises(LxError, match=r"the data is not what .* was trained on"):
        train_in(run)
    assert run.last.exists(), "what was trained is kept"
    write_rows(tmp_path / "train.jsonl", 50)
    assert train_in(run).status == "finished"


CONSTANT = ["scheduler=constant", "trainer.log_every_n_steps=3"]  # every row is full


def test_a_finished_run_can_be_made_longer(
    place: Path, uninterrupted: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared(place, "longer", *CONSTANT, "trainer.max_epochs=2", "launch=inline")
    assert local.start(run) == 0
    assert run.read_result().steps == 12
    before = run.last.read_bytes()
    assert local.resume(run.path) == local.resume(run.path, ["hardware.num_workers=2"]) == 0
    assert capsys.readouterr().out.count("nothing to do. To train longer: lx resume") == 2
    assert run.last.read_bytes() == before
    assert local.resume(run.path, ["trainer.max_epochs=+1", "hardware.num_workers=0"]) == 0
    assert run.read_result().steps == 18
    assert_equal(outcome(run), uninterrupted(*CONSTANT))


@pytest.fixture(scope="module")
def template(place: Path) -> RunDirectory:
    return prepared(place, "template")


@pytest.fixture
def untrained(template: RunDirectory, tmp_path: Path) -> RunDirectory:
    """A run that is about to begin, in a directory of its own."""
    return RunDirectory(Path(shutil.copytree(template.path, tmp_path / "untrained")))


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [
        ([], {}),
        (["trainer.max_epochs=5"], {"trainer/max_epochs": 5}),
        (["trainer.max_epochs=+2"], {"trainer/max_epochs": 5}),
        (["trainer.max_steps=7"], {"trainer/max_steps": 7}),
        (["trainer.on_nan=skip", "trainer.save_every_n_steps=null"], {"trainer/on_nan": "skip", SAVE: None}),
        (["trainer.save_every_n_minutes=0.5"], {"trainer/save_every_n_minutes": 0.5}),
        (["logger=none"], {"logger/csv/_target_": ..., "logger/csv/_partial_": ..., "logger": {}}),
        (["hardware=ddp_cpu"], {"hardware/devices": 2, "hardware/strategy": "ddp", **AUTO}),
        (["hardware.threads=3", "hardware=cpu"], {**AUTO, "hardware/threads": 3}),
    ],
)
def test_what_may_change(untrained: RunDirectory, overrides: list[str], changed: dict[str, Any]) -> None:
    before = dict(flat(untrained.read_config()))
    apply_resume_overrides(untrained, overrides, [])
    after = dict(flat(untrained.read_config()))
    differ = {
        key.lstrip("/"): after.get(key, ...)
        for key in {**before, **after}
        if before.get(key, ...) != after.get(key, ...)
    }
    assert differ == changed


def test_a_run_begun_inline_goes_on_in_several_processes(untrained: RunDirectory) -> None:
    apply_resume_overrides(untrained, ["launch=inline"], [])
    with pytest.raises(LxError, match="launch=process"):
        apply_resume_overrides(untrained, ["hardware=ddp_cpu"], [])
    assert untrained.read_config()["launch"] == "inline"
    apply_resume_overrides(untrained, ["launch=process", "hardware=ddp_cpu"], [])
    config = untrained.read_config()
    assert (config["launch"], config["hardware"]["devices"]) == ("process", 2)


@pytest.mark.parametrize(
    "override",
    [
        "optimizer.lr=1",
        "seed=1",
        "data.batch_size=4",
        "model=bag",
        "+model.dim=4",
        "trainer.ema_decay=0.5",
        "trainer.gradient_clip_val=null",
        "trainer=default",
        "run_dir=elsewhere",
        "callbacks.x=1",
        "hardwares=cpu",
        "logger@model=none",
        "~optimizer",
    ],
)
def test_what_may_not_change(untrained: RunDirectory, override: str) -> None:
    before = untrained.config.read_bytes()
    with pytest.raises(LxError, match="cannot change when a run goes on"):
        apply_resume_overrides(untrained, ["trainer.max_epochs=5", override], [])
    assert untrained.config.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.max_epochs=many", "trainer.max_epochs must be a whole number"),
        ("trainer.max_steps=+2", "the run has no trainer.max_steps to add to"),
        ("hardware=warp", "hardware=warp: no such option"),
        ("hardware.devices=0", "hardware.devices must be at least 1"),
        ("logger.wandb.project=mine", "the run has no logger.wandb"),
    ],
)
def test_a_change_is_checked(untrained: RunDirectory, override: str, says: str) -> None:
    before = untrained.config.read_bytes()
    with pytest.raises(LxError, match=says):
        apply_resume_overrides(untrained, [override], [])
    assert untrained.config.read_bytes() == before


NODES = ["optimizer", "scheduler", "tokenizer", "data.source", "model.pooling", "task", "logger.x", "callbacks.x"]


@pytest.mark.parametrize("node", [*NODES, "hardware.submit", "seed"])
def test_a_run_from_a_stranger_is_refused(
    untrained: RunDirectory, node: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = OmegaConf.create(untrained.read_config())
    touch = {"_target_": "os.system", "_args_": [f"touch {tmp_path / 'touched'}"]}
    OmegaConf.update(config, node, touch, merge=False, force_add=True)
    untrained.write_config(OmegaConf.to_container(config))  # type: ignore[arg-type]
    files = sorted(untrained.path.rglob("*"))
    assert main(["resume", str(untrained.path), "--trust", "oss"]) == 2
    assert "asks to build 'os.system', which is none of lx's own, and was refused" in capfd.readouterr().err
    assert not (tmp_path / "touched").exists()
    assert sorted(untrained.path.rglob("*")) == files


class Payload:
    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.touched}",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda touched: {"global_step": 4, "x": Payload(touched)}, "could run code of its own"),
        (lambda touched: {"state_dict": {}}, "no training state"),
        (lambda touched: {"global_step": "4"}, "no training state"),
    ],
    ids=["code", "no step", "text"],
)
def test_a_state_from_a_stranger_is_refused(
    untrained: RunDirectory, tmp_path: Path, content: Callable[[Path], dict[str, Any]], says: str
) -> None:
    write_checkpoint(untrained.last, content(tmp_path / "touched"))
    with pytest.raises(LxError, match=says):
        train_in(untrained)
    assert not (tmp_path / "touched").exists()


def test_resume_true_takes_the_same_run(place: Path, tmp_path: Path) -> None:
    folder = f"run_dir={tmp_path / 'same'}"
    first = prepared(place, "", folder, "resume=true")
    first.model.write_text("{}")
    same = prepared(place, "", folder, "resume=true", "trainer.max_epochs=7", "hardware.num_workers=2", "logger=none")
    assert same.path == first.path and same.model.exists()
    config = same.read_config()
    assert (config["trainer"]["max_epochs"], config["hardware"]["num_workers"], config["logger"]) == (7, 2, {})
    with pytest.raises(LxError, match=r"another run; these settings differ: optimizer\.lr, seed$"):
        prepared(place, "", folder, "resume=true", "seed=3", "optimizer.lr=0.5")
    with pytest.raises(LxError, match="already holds a run"):
        prepared(place, "", folder)


HOLDS = (
    "import sys, time; from pathlib import Path\n"
    "from lx.run.directory import RunDirectory; from lx.run.lock import locked\n"
    "with locked(RunDirectory(Path(sys.argv[1]))): print('in', flush=True); "
)


@pytest.mark.slow
def test_one_process_at_a_time(untrained: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLDS + "sys.stdin.read()", str(untrained.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        with pytest.raises(LxError, match="is being trained by another process"), locked(untrained):
            pass
        other.kill()
    with locked(untrained):
        pass


@pytest.mark.slow
def test_a_process_that_is_about_to_end_is_waited_for(untrained: RunDirectory) -> None:
    command = [sys.executable, "-c", HOLDS + "time.sleep(1)", str(untrained.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"in\n"
        assert in_use(untrained)
        require_idle(untrained)
        with locked(untrained):
            pass
