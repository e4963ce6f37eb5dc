from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import lx
from lx.errors import LxError
from lx.launch.local import prepare_run
from lx.run.directory import RunDirectory
from lx.run.paths import default_run_dir
from lx.run.result import Result
from lx.system.files import atomic_write, atomic_write_json, link_or_copy

FILES = """config.yaml environment.json tokenizer.json labels.json model.json micro_batch.json test.arrow
  log.txt metrics.csv result.json"""


def contents(path: Path) -> dict[str, str]:
    return {str(p.relative_to(path)): p.read_text() for p in path.rglob("*") if p.is_file()}


def test_atomic_write_replaces_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write_json(path, {"new": "中"})
    assert json.loads(path.read_text(encoding="utf-8")) == {"new": "中"}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_atomic_write_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fails() -> None:
        with atomic_write(tmp_path / "a") as temporary:
            temporary.write_text("half")
            assert (tmp_path / "a").read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert contents(tmp_path) == {"a": "old"}


@pytest.mark.parametrize("path", ["no/a.json", "file/a.json", "folder"])
def test_atomic_write_says_what_cannot_be_written(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    with pytest.raises(LxError, match=f"cannot write {tmp_path / path}: "):
        atomic_write_json(tmp_path / path, {})
    assert contents(tmp_path) == {"file": "mine"}


@pytest.mark.parametrize("name", [*FILES.split(), "checkpoints/best.ckpt"])
def test_create_refuses_a_directory_with_any_file_of_a_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(LxError, match="already holds a run"):
        RunDirectory(tmp_path).create()
    assert contents(tmp_path) == {name: "mine"}


def test_discard_leaves_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    run = RunDirectory(tmp_path)
    run.create()
    for name in FILES.split():
        (tmp_path / name).write_text("lx")
    run.last.write_text("lx")
    run.discard()
    assert contents(tmp_path) == {"notes.txt": "mine"}
    run.create()


def test_discard_removes_a_directory_of_its_own(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "new")
    run.create()
    run.write_config({"seed": 0})
    run.discard()
    assert list(tmp_path.iterdir()) == []


def test_config_is_read_back_as_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    config = {"seed": 0, "name": "中", "data": {"lr": 1e-3, "names": ["a", None, True]}, "text": "1e3"}
    run.write_config(config)
    assert run.read_config() == config


def test_result_is_read_back_as_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    result = Result(
        "finished", "runs/a", {"test/accuracy": 1 / 3}, objective=0.1, details={"confusion_matrix": [[1, 0], [0, 1]]}
    )
    run.write_result(result)
    assert run.read_result() == result


@pytest.mark.parametrize("spoil", ["missing", "file link", "folder link", "folder", "fifo"])
def test_only_regular_files_of_the_directory_are_trusted(tmp_path: Path, spoil: str) -> None:
    run, outside = RunDirectory(tmp_path / "run"), tmp_path / "outside"
    (run.path / "checkpoints").mkdir(parents=True)
    run.best.write_text("weights")
    assert run.trusted(run.best) == run.best
    match spoil:
        case "missing":
            run.best.unlink()
        case "file link":
            run.best.rename(outside)
            run.best.symlink_to(outside)
        case "folder link":
            run.best.parent.rename(outside)
            run.best.parent.symlink_to(outside)
        case "folder":
            run.best.unlink()
            run.best.mkdir()
        case "fifo":
            run.best.unlink()
            os.mkfifo(run.best)
    with pytest.raises(LxError, match=r"best\.ckpt is (missing|a link or not a regular file)"):
        run.trusted(run.best)


def test_a_link_to_the_run_itself_is_fine(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.write_config({"seed": 1})
    (tmp_path / "newest").symlink_to(run.path)
    assert RunDirectory(tmp_path / "newest").read_config() == {"seed": 1}


def test_default_run_dir_is_never_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = [default_run_dir("a")]
    for _ in range(3):
        found[-1].mkdir(parents=True)
        found.append(default_run_dir("a"))
    assert len(set(found)) == 4
    assert all(path.parent == Path("runs") for path in found)


def test_link_or_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("x")
    link_or_copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").samefile(tmp_path / "a")

    def cannot(self: Path, target: Path) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", cannot)
    link_or_copy(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_text() == "x" and not (tmp_path / "c").samefile(tmp_path / "a")


@pytest.mark.slow
def test_of_machines_that_start_at_once_one_makes_the_directory(tmp_path: Path) -> None:
    machines, at_once = 4, threading.Barrier(4, timeout=20)
    configs = [lx.compose(["hardware.num_nodes=4", f"run_dir={tmp_path / str(i)}"]) for i in range(12)]

    def start_all(_: int) -> list[str]:
        found = []
        for config in configs:
            at_once.wait()
            run = prepare_run(config, [])
            found.append(run.read_json(run.environment)["run_id"])
        return found

    with ThreadPoolExecutor(machines) as pool:
        found = list(pool.map(start_all, range(machines)))
    assert all(same == found[0] for same in found)
