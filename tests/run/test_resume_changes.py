"""What may change when a run goes on, and what may not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.config.compose import compose
from lx.errors import LxError
from lx.launch import local
from lx.run.directory import RunDirectory
from lx.run.resume_config import resumed_config
from support.interruptions import assert_equal, flat, outcome, prepared

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
]


SAVE = "trainer/save_every_n_steps"


AUTO = {"hardware/precision": "auto", "hardware/threads": None}  # what tiny() sets is the group's own again


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
    untrained.write_config(resumed_config(untrained, overrides, []))
    after = dict(flat(untrained.read_config()))
    differ = {
        key.lstrip("/"): after.get(key, ...)
        for key in {**before, **after}
        if before.get(key, ...) != after.get(key, ...)
    }
    assert differ == changed


def test_a_run_begun_inline_goes_on_in_several_processes(untrained: RunDirectory) -> None:
    untrained.write_config(resumed_config(untrained, ["launch=inline"], []))
    with pytest.raises(LxError, match="launch=process"):
        untrained.write_config(resumed_config(untrained, ["hardware=ddp_cpu"], []))
    assert untrained.read_config()["launch"] == "inline"
    untrained.write_config(resumed_config(untrained, ["launch=process", "hardware=ddp_cpu"], []))
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
        "logger@model=none",
        "~optimizer",
    ],
)
def test_what_may_not_change(untrained: RunDirectory, override: str) -> None:
    before = untrained.config.read_bytes()
    with pytest.raises(LxError, match="cannot change when a run goes on"):
        resumed_config(untrained, ["trainer.max_epochs=5", override], [])
    assert untrained.config.read_bytes() == before


@pytest.mark.parametrize(
    ("override", "says"),
    [
        (
            "trainer.max_epoch=3",
            r"no setting 'trainer.max_epoch' \(did you mean 'trainer.max_epochs'\?\). What can change",
        ),
        ("traner.max_steps=+2", "did you mean 'trainer.max_steps'"),
        ("hardwares=cpu", "did you mean 'hardware'"),
        ("optimizer.lrr=1", "did you mean 'optimizer.lr'"),
        ("trainer.max_epochs = 3", "without spaces: trainer.max_epochs=3"),
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
        resumed_config(untrained, override.split(" "), [])
    assert untrained.config.read_bytes() == before


def test_a_run_without_steps_cannot_be_made_longer(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["data=files", f"data.train={place / 'train.jsonl'}", f"data.cache_dir={place / 'cache'}"]
    settings = [
        "model=linear",
        "data.batch_size=8",
        "hardware=cpu",
        "logger=none",
        "launch=inline",
        f"run_dir={place / 'no steps'}",
    ]
    run = local.prepare_run(compose([*files, *settings]), [])
    assert local.start(run) == 0
    before = run.config.read_bytes(), run.result.read_bytes()
    for overrides in ([], ["trainer.max_epochs=+2"]):
        capsys.readouterr()
        assert local.resume(run.path, overrides) == 0
        out = capsys.readouterr().out
        assert "its model takes no training steps" in out.lower() and "max_" not in out
    assert (run.config.read_bytes(), run.result.read_bytes()) == before


def test_resume_true_takes_the_same_run(place: Path, tmp_path: Path) -> None:
    folder = f"run_dir={tmp_path / 'same'}"
    first = prepared(place, "", folder, "resume=true")
    first.model.write_text("{}")
    same = prepared(place, "", folder, "resume=true", "trainer.max_epochs=7", "hardware.num_workers=2", "logger=none")
    assert same.path == first.path and same.model.exists()
    config = same.next_config()
    assert same.read_config()["trainer"]["max_epochs"] == 3, "until the start has worked"
    assert (config["trainer"]["max_epochs"], config["hardware"]["num_workers"], config["logger"]) == (7, 2, {})
    with pytest.raises(LxError, match=r"another run; these settings differ: optimizer\.lr, seed$"):
        prepared(place, "", folder, "resume=true", "seed=3", "optimizer.lr=0.5")
    with pytest.raises(LxError, match=r"these settings differ: optimizer\.betas, recipe$"):
        prepared(place, "", folder, "resume=true", "recipe=auto", "optimizer.betas=[0.8,0.9]")
    with pytest.raises(LxError, match="already holds a run"):
        prepared(place, "", folder)


@pytest.mark.parametrize("setting", ["auto", "as it was"])
def test_resume_true_takes_an_older_run_that_lacks_a_setting(place: Path, tmp_path: Path, setting: str) -> None:
    overrides = [f"run_dir={tmp_path / 'older'}", "resume=true"]
    if setting == "auto":
        overrides += ["recipe=auto", "model.compare_pairs=auto", "model.adversarial=auto"]
    run = prepared(place, "", *overrides)
    config = run.read_config()
    for name in ("compare_pairs", "adversarial"):
        del config["model"][name]
    run.write_config(config)
    prepared(place, "", *overrides)
    assert run.next_config()["model"].get("compare_pairs", False) is False
    with pytest.raises(LxError, match=r"these settings differ: model\.adversarial$"):
        prepared(place, "", *overrides, "model.adversarial=0.1")
