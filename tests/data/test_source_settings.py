"""The source is built from the settings of ``data`` that its class has parameters for."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

import lx
from lx.data.sources.build import build_source
from lx.data.sources.files import FileSource
from lx.errors import LxError


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text("body,tags\na,x | y\nb,\n")
    return tmp_path


def test_settings_of_the_command_line_arrive(files: Path) -> None:
    overrides = ["data=files", f"data.train={files}/one.csv", f"data.test={files}/two.csv", "data.text=body"]
    source = build_source(lx.compose([*overrides, "data.label=tags", "data.label_separator='|'"]).data)
    assert isinstance(source, FileSource)
    assert source.splits == ("train", "test")
    (rows,) = source.read("test")
    assert (rows.texts, rows.labels) == (["a", "b"], [["x", "y"], []])


def test_the_node_of_a_run_of_before_holds_its_settings_itself(files: Path) -> None:
    node = {"_target_": "lx.data.files.FileSource", "train": f"{files}/one.csv", "text": "body", "label": "tags"}
    source = build_source(OmegaConf.create({"train": f"{files}/two.csv", "batch_size": 3, "source": node}))
    assert source.describe("train") == f"{files}/one.csv"


def test_a_class_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_source.py").write_text(
        "class Mine:\n    def __init__(self, places, max_length, **rest):\n        self.seen = places, max_length, rest"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    data = {"places": ["here"], "max_length": 7, "other": 1, "source": {"_target_": "my_source.Mine"}}
    assert build_source(OmegaConf.create(data)).seen == (["here"], 7, {})  # type: ignore[attr-defined]


@pytest.mark.parametrize("target", ["no_such.Thing", "lx.data.sources.files.FileSorce"])
def test_a_class_that_cannot_be_imported(target: str) -> None:
    with pytest.raises(LxError, match=r"data\.source cannot be built"):
        build_source(OmegaConf.create({"train": "a.csv", "source": {"_target_": target}}))
