"""The commands of the README, in real processes."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

README = Path(__file__).parents[2] / "README.md"
TOPICS = {"food": "bread onion soup butter salt", "music": "violin chord tempo melody", "space": "orbit rocket lunar"}
SMALL = ["tokenizer=word", "model=tiny", "hardware=cpu", "data.batch_size=16", "data.max_length=16"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with train.csv and test.csv, and a cache of its own."""
    place = tmp_path_factory.mktemp("place")
    for name, count in (("train", 240), ("test", 31)):
        with (place / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["headline", "topic"])
            for i in range(count):
                topic = sorted(TOPICS)[i % 3]
                words = TOPICS[topic].split()
                out.writerow([f"{words[i % len(words)]}, {words[i // 3 % len(words)]} {name} {i}", topic])
    return place


def lx(place: Path, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lx", *arguments],
        cwd=place,
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "LX_CACHE": str(place / "cache"), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}


def training(*overrides: str) -> Sequence[str]:
    files = ["data=files", "data.train=train.csv", "data.test=test.csv", "data.text=headline", "data.label=topic"]
    return ["train", *files, *SMALL, *overrides]


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    """A run of ``lx train`` with the default loggers."""
    done = lx(place, *training("trainer.max_epochs=6", "run_dir=run"))
    assert done.returncode == 0, done.stderr
    assert "lx predict run" in done.stdout
    assert "test/accuracy" in done.stdout
    return place / "run"


def test_a_run_directory_holds_everything(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    files = {"config.yaml", "environment.json", "tokenizer.json", "labels.json", "model.json", "test.arrow"}
    assert files | {"metrics.csv", "log.txt", "checkpoints", "result.json", "wandb"} <= names
    result = json.loads((run / "result.json").read_text())
    assert result["status"] == "finished"
    assert result["metrics"]["test/accuracy"] > 0.9
    assert json.loads((run / "environment.json").read_text())["overrides"][0] == "data=files"
    assert list((run / "wandb").glob("offline-run-*/*.wandb"))


def test_eval_gives_the_metrics_of_training_to_the_last_digit(place: Path, run: Path) -> None:
    done = lx(place, "eval", "run")
    assert done.returncode == 0, done.stderr
    of_training = json.loads((run / "result.json").read_text())["metrics"]
    of_eval = json.loads((run / "eval.json").read_text())["metrics"]
    assert of_eval == {name: value for name, value in of_training.items() if name.startswith("test/")}


def test_eval_on_the_test_file_gives_the_same_metrics(place: Path, run: Path) -> None:
    done = lx(place, "eval", "run", "data.test=test.csv", "--out", "other.json")
    assert done.returncode == 0, done.stderr
    of_training = json.loads((run / "result.json").read_text())["metrics"]
    assert json.loads((place / "other.json").read_text())["metrics"]["test/loss"] == of_training["test/loss"]


def test_predictions_come_in_order_and_agree_with_the_metrics(place: Path, run: Path) -> None:
    done = lx(place, "predict", "run", "test.csv", "--out", "predictions.csv", "--probabilities")
    assert done.returncode == 0, done.stderr
    with (place / "test.csv").open(encoding="utf-8") as file:
        truth = list(csv.DictReader(file))
    with (place / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [row["headline"] for row in truth]
    assert [int(row["id"]) for row in rows] == list(range(len(truth)))
    right = sum(row["label"] == true["topic"] for row, true in zip(rows, truth, strict=True))
    accuracy = json.loads((run / "result.json").read_text())["metrics"]["test/accuracy"]
    assert right / len(truth) == accuracy
    for row in rows:
        assert sum(float(row[f"probability[{name}]"]) for name in TOPICS) == pytest.approx(1, abs=1e-5)


def test_texts_from_standard_input(place: Path, run: Path) -> None:
    texts = ["violin, chord train 1", "", "rocket, orbit train 2"]
    done = lx(place, "predict", "run", input="".join(f"{text}\n" for text in texts))
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [rows[0]["label"], rows[2]["label"]] == ["music", "space"]


@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="torch.compile needs a C++ compiler here")
def test_a_compiled_network_learns_what_an_eager_one_learns(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place / "compiled"))
    losses = []
    for compile_ in ("false", "true"):
        settings = ["model.dropout=0", "model.token_dropout=0", "hardware.precision=32-true", "trainer.max_steps=3"]
        run = f"compile-{compile_}"
        done = lx(place, *training(*settings, "logger=none", f"hardware.compile={compile_}", f"run_dir={run}"))
        assert done.returncode == 0, done.stderr
        assert list((place / "compiled").glob("*/*.cpp")) or compile_ == "false"
        losses.append(json.loads((place / run / "result.json").read_text())["metrics"]["test/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_multirun_makes_a_run_directory_for_each_combination(place: Path) -> None:
    done = lx(place, *training("-m", "seed=0,1", "trainer.max_steps=3", "logger=none", "hydra.sweep.dir=sweep"))
    assert done.returncode == 0, done.stderr
    results = [json.loads((place / "sweep" / str(i) / "result.json").read_text()) for i in range(2)]
    assert [result["steps"] for result in results] == [3, 3]
    assert results[0]["metrics"]["test/loss"] != results[1]["metrics"]["test/loss"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_run_with_a_checkpoint(place: Path, number: signal.Signals, code: int) -> None:
    name = f"stopped-{number.name}"
    command = [sys.executable, "-m", "lx", *training("trainer.max_epochs=100000", "logger=csv", f"run_dir={name}")]
    process = subprocess.Popen(command, cwd=place, env=environment(place), stderr=subprocess.PIPE, text=True)
    metrics = place / name / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert f"stopped by {number.name}" in stderr
    assert json.loads((place / name / "result.json").read_text())["status"] == "stopped"
    assert (place / name / "checkpoints" / "last.ckpt").exists()


def test_a_killed_worker_is_told(place: Path) -> None:
    command = [sys.executable, "-m", "lx", *training("trainer.max_epochs=100000", "logger=csv", "run_dir=killed")]
    process = subprocess.Popen(command, cwd=place, env=environment(place), stderr=subprocess.PIPE, text=True)
    metrics = place / "killed" / "metrics.csv"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.2)
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "killed by SIGKILL" in stderr
    assert json.loads((place / "killed" / "result.json").read_text())["status"] == "failed"


def test_the_python_of_the_readme_runs(place: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    command = [sys.executable, "-c", snippet]
    options = {"cwd": place, "env": environment(place), "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(command, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()[-2].split()) == 2
