"""A user's folder adds options to lx's own, which it cannot replace; the working directory adds nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import lx
from lx.cli.completion import candidates
from lx.config.compose import resolved
from lx.config.session import conf_dir
from lx.errors import LxError

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write an option of the user's; the folder that it is in."""

    def write(name: str, *lines: str, folder: str = "mine") -> Path:
        path = tmp_path / folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / folder

    return write


def test_options_of_a_users_folder(write: Write) -> None:
    write("model/narrow", "defaults: [tiny, _self_]", "dim: 32")
    write("data/reviews", "defaults: [files, _self_]", "train: reviews.csv", "text: review")
    folder = write(
        "experiment/narrow",
        "# @package _global_",
        "defaults:",
        "  - override /model: narrow",
        "  - override /data: reviews",
        "seed: 7",
        "data:",
        "  batch_size: 16",
    )
    config = resolved(lx.compose(["experiment=narrow", "hardware=cpu"], folder))
    assert (config["model"]["dim"], config["model"]["num_layers"]) == (32, 2)
    assert config["data"]["train"] == "reviews.csv"
    assert (config["seed"], config["data"]["batch_size"], config["hardware"]["accelerator"]) == (7, 16, "cpu")
    assert lx.compose(["experiment=narrow", "seed=8"], folder).seed == 8
    assert lx.compose(["experiment=narrow", "model=tiny"], folder).model.dim == 128


def test_the_folder_of_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LX_CONFIG_DIR", str(write("model/narrow", "defaults: [tiny, _self_]", "dim: 32")))
    assert lx.compose(["model=narrow"]).model.dim == 32
    assert "model=narrow" in candidates("lx train model=")
    other = write("model/wide", "defaults: [tiny, _self_]", "dim: 512", folder="other")
    assert lx.compose(["model=wide"], other).model.dim == 512
    assert "model=wide" in candidates(f"lx train --config-dir {other} model=")
    with pytest.raises(LxError, match="model=narrow: no such option"):
        lx.compose(["model=narrow"], other)
    monkeypatch.setenv("LX_CONFIG_DIR", "nowhere")
    with pytest.raises(LxError, match="LX_CONFIG_DIR=nowhere: no such directory"):
        lx.compose()


def test_the_working_directory_is_not_searched(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = lx.compose(["data=files"])
    write("data/files", "source:", "  _target_: os.system", folder="conf")
    write("train", "defaults: []", "lr: 1", folder="conf")
    write("model/narrow", "defaults: [tiny, _self_]", folder="conf")
    monkeypatch.chdir(tmp_path)
    assert lx.compose(["data=files"]) == before
    with pytest.raises(LxError, match="model=narrow: no such option"):
        lx.compose(["model=narrow"])


@pytest.mark.parametrize("name", ["model/tiny", "data/_base", "train", "hardware/cpu"])
def test_an_option_that_lx_has_is_refused(name: str, write: Write) -> None:
    folder = write(name, "dim: 1")
    with pytest.raises(LxError, match=rf"{name}\.yaml would never be read.*another name"):
        lx.compose([], folder)


def test_the_folder_of_lx_itself_adds_nothing() -> None:
    assert lx.compose(["model=tiny"], conf_dir()) == lx.compose(["model=tiny"])


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (["hardware:", "  micro_batch: 3"], "hardware.micro_batch"),
        (["defaults:", "  - override /hardware: cpu"], "hardware"),
        (["defaults:", "  - nested/machine"], "hardware.devices"),
    ],
)
def test_an_experiment_that_names_hardware_is_refused(lines: list[str], key: str, write: Write) -> None:
    write("experiment/nested/machine", "# @package _global_", "hardware:", "  devices: 4")
    folder = write("experiment/mine", "# @package _global_", *lines)
    with pytest.raises(LxError, match=rf"experiment.*=(mine|machine) sets {key}, but only the command line"):
        lx.compose(["experiment=mine"], folder)


def test_options_of_hardware_may_name_hardware(write: Write) -> None:
    folder = write("hardware/workstation", "defaults: [auto, _self_]", "num_workers: 4")
    assert lx.compose(["hardware=workstation"], folder).hardware.num_workers == 4


def test_an_override_that_meets_nothing_is_named(write: Write) -> None:
    folder = write("experiment/mine", "# @package _global_", "defaults:", "  - override /modle: tiny")
    with pytest.raises(LxError, match=r"experiment/mine\.yaml: 'override /modle'"):
        lx.compose(["experiment=mine"], folder)


@pytest.mark.parametrize(
    ("first", "second"),
    [("max_steps", "max_epochs"), ("val_check_interval", "check_val_every_n_epoch")],
)
def test_of_two_settings_where_one_has_no_effect_one_is_refused(first: str, second: str, write: Write) -> None:
    with pytest.raises(LxError, match=f"trainer.{second} has no effect beside trainer.{first}=5"):
        lx.compose([f"trainer.{first}=5", f"trainer.{second}=3"])
    folder = write("experiment/both", "# @package _global_", "trainer:", f"  {first}: 5", f"  {second}: 3")
    with pytest.raises(LxError, match=f"experiment=both sets trainer.{first} and trainer.{second}"):
        lx.compose(["experiment=both"], folder)
    write("experiment/one", "# @package _global_", "trainer:", f"  {first}: 5")
    with pytest.raises(LxError, match=f"trainer.{second} has no effect"):
        lx.compose(["experiment=one", f"trainer.{second}=3"], folder)
    undone = lx.compose(["experiment=one", f"trainer.{second}=3", f"trainer.{first}=null"], folder)
    assert (undone.trainer[first], undone.trainer[second]) == (None, 3)
    write("experiment/other", "# @package _global_", "trainer:", f"  {second}: 3")
    assert lx.compose(["experiment=other", f"trainer.{first}=5"], folder).trainer[first] == 5
