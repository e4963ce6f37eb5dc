"""A result that is written says no less afterwards, and a command that cannot start writes nothing."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lx
from lx.cli.main import main
from lx.launch import local
from lx.run.directory import RunDirectory
from lx.run.ending import Reached, record_end
from lx.run.result import Result
from lx.system.signals import Stopped
from lx.training import train
from lx.training.module import TextClassifier
from support.bad_input import snapshot
from support.run_files import result
from support.tiny_run import tiny

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")]


@pytest.fixture
def run(trained_run: Path, tmp_path: Path) -> Path:
    """A finished run of 12 steps, and its data, in a folder of their own."""
    folder = shutil.copytree(trained_run.parent, tmp_path / "place", ignore=shutil.ignore_patterns("cache"))
    config = folder / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(trained_run.parent), str(folder)))
    return folder / "run"


def files(run: Path) -> dict[str, bytes | None]:
    """All that a run directory holds, but for the lines that say what was tried."""
    return {name: content for name, content in snapshot(run).items() if name not in ("log.txt", ".lock")}


def resume(run: Path, *overrides: str) -> int:
    return main(["resume", str(run), "launch=inline", *overrides])


def move_data(run: Path) -> None:
    (run.parent / "train.jsonl").rename(run.parent / "moved.jsonl")


def change_data(run: Path) -> None:
    with (run.parent / "train.jsonl").open("a") as file:
        file.write('{"text": "new soup", "label": "food"}\n')


def damage_states(run: Path) -> None:
    for path in (run / "checkpoints").glob("*.ckpt"):
        path.write_bytes(path.read_bytes()[:-10])


def nothing(run: Path) -> None:
    pass


REFUSED: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "data moved": (move_data, ["trainer.max_epochs=+2"], "if it has moved: lx resume"),
    "data changed": (change_data, ["trainer.max_epochs=+2"], "the data is not what"),
    "other data": (nothing, ["data.train={folder}/test.jsonl", "trainer.max_epochs=+2"], "the data is not what"),
    "states damaged": (damage_states, ["trainer.max_epochs=+2"], "are damaged"),
    "shorter": (nothing, ["trainer.max_epochs=1"], "is already past that: it has taken 12 steps"),
    "shorter, in steps": (nothing, ["trainer.max_steps=5"], "trainer.max_steps=5: "),
    "no such device": (nothing, ["trainer.max_epochs=+2", "hardware=gpu"], "this machine has none"),
}


@pytest.mark.parametrize(("prepare", "overrides", "says"), REFUSED.values(), ids=REFUSED)
def test_a_resumption_that_does_not_start_changes_nothing(
    run: Path,
    prepare: Callable[[Path], None],
    overrides: list[str],
    says: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    prepare(run)
    before = files(run)
    for _ in range(2):
        assert resume(run, *(override.format(folder=run.parent) for override in overrides)) == 2
        assert says in capfd.readouterr().err
        assert files(run) == before


ENDS = [KeyboardInterrupt(), Stopped(signal.SIGTERM), RuntimeError("a bug")]


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_a_start_that_is_broken_off_changes_nothing(
    run: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "build_run", raising(error))
    before = files(run)
    with contextlib.suppress(KeyboardInterrupt):
        assert resume(run, "trainer.max_epochs=+2") != 0
    assert files(run) == before


def raising(error: BaseException) -> Callable[..., None]:
    def function(*args: Any) -> None:
        raise error

    return function


def test_a_resumption_whose_process_is_killed_before_it_starts_changes_nothing(run: Path) -> None:
    directory = RunDirectory(run)
    directory.propose({**directory.read_config(), "seed": 7})
    before = files(run)
    record_end(directory, "failed", "killed")
    assert files(run) == before


@pytest.mark.parametrize("status", ["failed", "stopped", "pruned"])
def test_the_first_end_of_a_run_is_recorded(status: str, tmp_path: Path) -> None:
    record_end(RunDirectory(tmp_path), status, "why", Reached(steps=7, objective=0.5), seconds=2.0)
    result = RunDirectory(tmp_path).read_result()
    assert (result.status, result.error, result.steps, result.objective) == (status, "why", 7, 0.5)


def test_data_that_has_moved(run: Path) -> None:
    move_data(run)
    moved = run.parent / "moved.jsonl"
    assert resume(run, f"data.train={moved}", "trainer.max_epochs=+1") == 0
    assert result(run)["steps"] == 18
    assert RunDirectory(run).read_config()["data"]["train"] == str(moved)
    assert not (run / "resume.yaml").exists()


@pytest.mark.parametrize(
    ("error", "status"),
    [(Stopped(signal.SIGINT), "stopped"), (Stopped(signal.SIGTERM), "stopped"), (RuntimeError("a bug"), "failed")],
    ids=repr,
)
def test_a_run_that_is_made_longer_and_interrupted_keeps_what_was_measured(
    run: Path, error: BaseException, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = TextClassifier.training_step

    def failing(self: TextClassifier, *args: Any) -> Any:
        if self.trainer.global_step == 19:
            raise error
        return original(self, *args)

    monkeypatch.setattr(TextClassifier, "training_step", failing)
    before = result(run)
    assert resume(run, "trainer.max_epochs=+2") != 0
    after = result(run)
    assert (after["status"], after["steps"], after["epochs"]) == (status, 19, 3)
    of_test = {name: value for name, value in before["metrics"].items() if name.startswith("test/")}
    assert of_test.items() <= after["metrics"].items() and after["metrics"].keys() == before["metrics"].keys()
    assert after["per_class"] == before["per_class"] and after["seconds"] > before["seconds"]


def test_a_process_that_is_killed_leaves_what_its_last_state_says(run: Path) -> None:
    before = result(run)
    (run / "result.json").unlink()
    record_end(RunDirectory(run), "failed", "killed")
    after = result(run)
    assert (after["status"], after["steps"], after["epochs"]) == ("failed", 12, 2)
    assert after["metrics"].keys() == {name for name in before["metrics"] if name.startswith("val/")}
    assert after["best_checkpoint"] == str(run / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_what_happens_after_the_result_changes_nothing(
    tmp_path: Path, trained_run: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "show_result", raising(error))
    settings = tiny(trained_run.parent, f"run_dir={tmp_path / 'run'}", "trainer.max_steps=2")
    with pytest.raises(SystemExit if isinstance(error, Stopped) else type(error)):
        lx.train(lx.compose(settings))
    assert result(tmp_path / "run")["status"] == "finished"
    record_end(RunDirectory(tmp_path / "run"), "stopped", "a second Ctrl-C")
    assert result(tmp_path / "run")["status"] == "finished"


def test_a_run_of_steps_is_made_longer_by_steps(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert resume(run, "trainer.max_steps=14") == 0
    assert resume(run, "trainer.max_epochs=+1") == 2
    assert "change trainer.max_steps=14" in capfd.readouterr().err
    before = files(run)
    assert resume(run, "trainer.max_steps=14") == 0
    assert "nothing to do" in capfd.readouterr().out
    assert files(run) == before


def test_resume_true_leaves_a_finished_run_alone(run: Path) -> None:
    before = files(run)
    assert main(["train", *tiny(run.parent, "resume=true", "launch=inline")]) == 0
    assert files(run) == before


def test_a_prepared_run_is_trained_by_resume(tmp_path: Path, trained_run: Path) -> None:
    folder = tmp_path / "run"
    local.launch(lx.compose(tiny(trained_run.parent, f"run_dir={folder}", "trainer.max_steps=2", "launch=prepare")))
    assert not (folder / "result.json").exists()
    assert main(["resume", str(folder)]) == 0
    assert (result(folder)["status"], result(folder)["steps"]) == ("finished", 2)


def test_a_result_keeps_what_is_newer(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_result(Result("stopped", metrics={"val/loss": 1.0}, steps=4, objective=0.5, seconds=3.0))
    record_end(run, "failed", "a bug")
    after = run.read_result()
    assert (after.status, after.metrics, after.objective, after.seconds) == ("failed", {"val/loss": 1.0}, 0.5, 3.0)


def test_a_run_that_is_killed_while_it_goes_on_can_still_predict(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whatever instant: here while the tokenizer is written."""
    written = Path.write_text

    def write_half(path: Path, text: str, *arguments: Any, **options: Any) -> int:
        if "tokenizer.json" not in path.name:
            return written(path, text, *arguments, **options)
        written(path, text[: len(text) // 2], *arguments, **options)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(Path, "write_text", write_half)
    assert resume(run, "trainer.max_epochs=+1") == 143
    assert lx.load(run, "cpu").predict(["onion soup"])
