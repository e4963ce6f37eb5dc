"""The commands of the README, in real processes."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.commands import assert_done, lx, start
from support.corpus import TOPICS, write_csv
from support.run_files import result

pytestmark = pytest.mark.slow

README = Path(__file__).parents[2] / "README.md"
SMALL = ["tokenizer=word", "model=tiny", "hardware=cpu", "data.batch_size=16", "data.max_length=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with train.csv and test.csv, and a cache of its own."""
    folder = tmp_path_factory.mktemp("commands")
    write_csv(folder / "train.csv", 240, text="headline", label="topic")
    write_csv(folder / "test.csv", 31, start=1000, text="headline", label="topic")
    return folder


def training(*overrides: str) -> Sequence[str]:
    files = ["data=files", "data.train=train.csv", "data.test=test.csv", "data.text=headline", "data.label=topic"]
    return ["train", *files, *SMALL, *overrides]


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of ``lx train`` with the default loggers."""
    done = lx(folder, *training("trainer.max_epochs=6", "run_dir=run"))
    assert done.returncode == 0, done.stderr
    assert "lx predict run" in done.stdout
    assert "test/accuracy" in done.stdout
    return folder / "run"


def test_a_run_directory_holds_everything(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    files = {"config.yaml", "environment.json", "tokenizer.json", "labels.json", "model.json", "test.arrow"}
    assert files | {"metrics.csv", "log.txt", "checkpoints", "result.json", "wandb"} <= names
    assert result(run)["status"] == "finished"
    assert result(run)["metrics"]["test/accuracy"] > 0.9
    assert json.loads((run / "environment.json").read_text())["overrides"][0] == "data=files"
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))


def test_eval_gives_the_metrics_of_training_to_the_last_digit(folder: Path, run: Path) -> None:
    done = lx(folder, "eval", "run")
    assert done.returncode == 0, done.stderr
    of_training = result(run)["metrics"]
    of_eval = json.loads((run / "eval.json").read_text())["metrics"]
    assert of_eval == {name: value for name, value in of_training.items() if name.startswith("test/")}


def test_eval_on_the_test_file_gives_the_same_metrics(folder: Path, run: Path) -> None:
    done = lx(folder, "eval", "run", "data.test=test.csv", "--out", "other.json")
    assert done.returncode == 0, done.stderr
    of_training = result(run)["metrics"]
    assert json.loads((folder / "other.json").read_text())["metrics"]["test/loss"] == of_training["test/loss"]


def test_predictions_come_in_order_and_agree_with_the_metrics(folder: Path, run: Path) -> None:
    done = lx(folder, "predict", "run", "test.csv", "--out", "predictions.csv", "--probabilities")
    assert done.returncode == 0, done.stderr
    with (folder / "test.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    with (folder / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [row["headline"] for row in truth]
    assert [int(row["id"]) for row in rows] == list(range(len(truth)))
    right = sum(row["label"] == true["topic"] for row, true in zip(rows, truth, strict=True))
    accuracy = result(run)["metrics"]["test/accuracy"]
    assert right / len(truth) == accuracy
    for row in rows:
        assert sum(float(row[f"probability[{name}]"]) for name in TOPICS) == pytest.approx(1, abs=1e-5)


def test_texts_from_standard_input(folder: Path, run: Path) -> None:
    texts = ["violin, chord train 1", "", "rocket, orbit train 2"]
    done = lx(folder, "predict", "run", input="".join(f"{text}\n" for text in texts))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [rows[0]["label"], rows[2]["label"]] == ["music", "space"]


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler here")
def test_a_compiled_network_learns_what_an_eager_one_learns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled"))
    losses = []
    for compile_ in ("false", "true"):
        settings = ["model.dropout=0", "model.token_dropout=0", "hardware.precision=32-true", "trainer.max_steps=3"]
        run = f"compile-{compile_}"
        done = lx(folder, *training(*settings, "logger=none", f"hardware.compile={compile_}", f"run_dir={run}"))
        assert done.returncode == 0, done.stderr
        assert list((folder / "compiled").glob("*/*.cpp")) or compile_ == "false"
        losses.append(result(folder / run)["metrics"]["test/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_python_of_the_readme_runs(folder: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (folder / "snippet.py").write_text(snippet)
    ended = start(folder, [], module="snippet").wait(300)
    assert_done(ended)
    assert len(ended.output.splitlines()[-2].split()) == 2
