"""Regression and multi-label classification through every command, on a tiny corpus."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.inference.evaluate import evaluate
from lx.inference.load import load_run
from lx.run.directory import RunDirectory
from lx.run.predictions import read_predictions
from support.corpus import jsonl
from support.run_files import result, rows
from support.task_data import NAMES, SPLITS, TASK_SETTINGS, TASKS, labelled, write
from support.tiny_run import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


@pytest.fixture(scope="session", params=TASKS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The task, and a run of pairs of texts."""
    folder = write(tmp_path_factory.mktemp(request.param), request.param)
    settings = [f"data.validation={folder / 'validation.jsonl'}", "trainer.max_epochs=8", "trainer.log_every_n_steps=1"]
    settings += [*TASK_SETTINGS[request.param], "data.text_pair=pair", "optimizer.lr=0.03", "logger=csv"]
    lx.train(lx.compose(tiny(folder, *settings)))
    return request.param, folder / "run"


def test_a_run_learns_and_is_recorded(trained: tuple[str, Path]) -> None:
    task, run = trained
    recorded, config = result(run), OmegaConf.load(run / "config.yaml")
    objective, mode = ("val/mse", "min") if task == "regression" else ("val/f1_micro", "max")
    assert (config.objective.metric, config.objective.mode) == (objective, mode)
    assert recorded["objective"] == recorded["metrics"][objective]
    validations = [float(row[objective]) for row in rows(run) if row.get(objective)]
    assert recorded["objective"] == pytest.approx((min if mode == "min" else max)(validations), rel=1e-6)
    metrics = recorded["metrics"]
    if task == "regression":
        assert metrics["test/r2"] > 0.3
        assert metrics["test/rmse"] == pytest.approx(metrics["test/mse"] ** 0.5)
    else:
        assert metrics["test/f1_micro"] > 0.7
        assert [label["name"] for label in recorded["per_class"]] == NAMES
    counted = [row["train/mae" if task == "regression" else "train/subset_accuracy"] for row in rows(run) if row["lr"]]
    assert len(counted) == recorded["steps"] and all(counted)


def test_predictions_and_mistakes_are_kept(trained: tuple[str, Path]) -> None:
    task, run = trained
    kept, metrics = read_predictions(RunDirectory(run)), result(run)["metrics"]
    examples = labelled(task, *SPLITS["test"])
    said = lx.load(run, "cpu").predict([row["text"] for row in examples], [row["pair"] for row in examples])
    test = kept.splits["test"]
    assert test.rows.tolist() == list(range(31)) and len(kept.splits["validation"].rows) == 23
    assert kept.metric == ("mse" if task == "regression" else "f1_micro")
    assert test.metric.sum() / test.weight.sum() == pytest.approx(metrics[f"test/{kept.metric}"], rel=1e-6)
    assert test.loss.mean() == pytest.approx(metrics["test/loss"], rel=1e-5)
    mistakes = json.loads((run / "mistakes.json").read_text())["test"]
    wrong = np.flatnonzero(test.loss if task == "regression" else test.metric < test.weight)
    assert [mistake["row"] for mistake in mistakes] == wrong[np.argsort(-test.loss[wrong], kind="stable")].tolist()
    row = mistakes[0]["row"]
    assert [mistakes[0][name] for name in ("text", "text_pair")] == [examples[row][name] for name in ("text", "pair")]
    if task == "regression":
        assert test.labels.tolist() == [row["label"] for row in examples]
        assert test.scores[:, 0] == pytest.approx([each.value for each in said], rel=1e-5)
        assert mistakes[0]["label"] == examples[row]["label"]
        assert mistakes[0]["prediction"] == pytest.approx(said[row].value, rel=1e-5)
    else:
        assert [sorted(np.array(NAMES)[labels].tolist()) for labels in test.labels] == [
            sorted(row["label"]) for row in examples
        ]
        expected = [list(each.probabilities.values()) for each in said]
        assert test.scores == pytest.approx(np.array(expected), abs=1e-6)
        assert mistakes[0]["prediction"] == said[row].labels != mistakes[0]["label"]
        assert sorted(mistakes[0]["label"]) == sorted(examples[row]["label"])
        assert set(mistakes[0]["probability"]) == {*mistakes[0]["prediction"], *mistakes[0]["label"]}


def test_evaluation_equals_that_of_the_run(trained: tuple[str, Path]) -> None:
    _, run = trained
    expected = {name: value for name, value in result(run)["metrics"].items() if name.startswith("test/")}
    assert evaluate(load_run(run), ["hardware=cpu"]).metrics == expected
    assert evaluate(load_run(run), ["hardware=cpu", f"data.test={run.parent / 'test.jsonl'}"]).metrics == expected
    assert main(["eval", str(run), "hardware=cpu"]) == 0


def test_predictions_give_the_metrics(trained: tuple[str, Path], tmp_path: Path) -> None:
    task, run = trained
    expected, test = result(run)["metrics"], labelled(task, *SPLITS["test"])
    texts, pairs = [row["text"] for row in test], [row["pair"] for row in test]
    predictions = lx.load(run, "cpu").predict(texts, pairs)
    assert [prediction.text for prediction in predictions] == texts
    truth = [row["label"] for row in test]
    if task == "regression":
        values = [prediction.value for prediction in predictions]  # type: ignore[attr-defined]
        assert mean_squared_error(truth, values) == pytest.approx(expected["test/mse"], rel=1e-5)
        assert spearmanr(truth, values).statistic == pytest.approx(expected["test/spearman"], rel=1e-5)
    else:
        hot = np.array([[name in labels for name in NAMES] for labels in truth])
        predicted = np.array([[name in p.labels for name in NAMES] for p in predictions])  # type: ignore[attr-defined]
        assert f1_score(hot, predicted, average="micro") == pytest.approx(expected["test/f1_micro"], rel=1e-9)
        assert accuracy_score(hot, predicted) == pytest.approx(expected["test/subset_accuracy"], rel=1e-9)
        best = evaluate(load_run(run), ["hardware=cpu"]).details["per_class"]
        assert len({label["threshold"] for label in best}) > 1

    out = {}
    for options in ([], ["--probabilities"]):
        for kind in ("jsonl", "csv"):
            path = tmp_path / f"{len(options)}.{kind}"
            source = str(run.parent / "test.jsonl")
            assert main(["predict", str(run), source, "--accelerator", "cpu", "--out", str(path), *options]) == 0
            out[kind, len(options)] = path.read_text()
    lines = [json.loads(line) for line in out["jsonl", 0].splitlines()]
    full = [json.loads(line) for line in out["jsonl", 1].splitlines()]
    table = list(csv.DictReader(out["csv", 0].splitlines()))
    full_table = list(csv.DictReader(out["csv", 1].splitlines()))
    assert [line["text"] for line in lines] == [row["text"] for row in table] == texts
    if task == "regression":
        assert [line["value"] for line in lines] == pytest.approx(values, rel=1e-5)
        assert [float(row["value"]) for row in table] == pytest.approx(values, rel=1e-5)
        assert set(lines[0]) - {"id"} == set(table[0]) - {"id"} == {"text", "text_pair", "value"}
    else:
        for line, row in zip(lines, table, strict=True):
            assert list(line["probabilities"]) == line["labels"] == [name for name in row["labels"].split("|") if name]
        assert list(full[0]["probabilities"]) == NAMES
        assert [name for name in full_table[0] if name != "id"] == [
            "text",
            "text_pair",
            "labels",
            *(f"probability[{name}]" for name in NAMES),
        ]


def test_check_reads_the_data(trained: tuple[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    task, run = trained
    assert main(["check", *tiny(run.parent, *TASK_SETTINGS[task], f"run_dir={run.parent / 'none'}")]) == 0
    assert ("numbers" if task == "regression" else "4 labels") in capfd.readouterr().out


@pytest.mark.parametrize(
    ("task", "label", "message"),
    [
        ("regression", "1,5", r"train\.jsonl:2: the label '1,5' has a decimal comma: write 1\.5"),
        ("regression", [1.0], r"train\.jsonl:2: the label '\[1\.0\]' is not a number"),
        ("multilabel", ["food", None], r"train\.jsonl:2: one of the labels is empty"),
        ("multilabel", {"food": 1}, r"train\.jsonl:2: .*an object"),
        ("classification", 1.5, r"train\.jsonl:2: the label '1\.5' is a fraction.*are for task=regression$"),
        ("classification", ["a"], r"train\.jsonl:2: .* is a list.*are for task=multilabel$"),
    ],
)
def test_a_bad_label_is_named_by_file_and_line(tmp_path: Path, task: str, label: object, message: str) -> None:
    bad = [{"text": "a", "label": 1}, {"text": "b", "label": label}, {"text": "c", "label": 2}]
    (tmp_path / "train.jsonl").write_text(jsonl(bad))
    with pytest.raises(LxError, match=message):
        lx.train(lx.compose(tiny(tmp_path, f"task={task}", "data.test=null")))


@pytest.mark.parametrize(
    ("metric", "message"),
    [("val/accuracy", "is not measured.*val/rmse"), ("val/rsme", r"is none that lx knows \(did you mean 'val/rmse'")],
)
def test_an_objective_that_the_task_does_not_measure_is_refused(tmp_path: Path, metric: str, message: str) -> None:
    write(tmp_path, "regression")
    with pytest.raises(LxError, match=rf"objective\.metric=.* {message}"):
        lx.train(lx.compose(tiny(tmp_path, "task=regression", f"objective.metric={metric}")))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_labels_of_a_text_column_or_of_lists(tmp_path: Path, kind: str) -> None:
    """A separator in CSV, and lists in Parquet, give the corpus that lists in JSON Lines give."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(tmp_path, "multilabel")
    table = labelled("multilabel", *SPLITS["train"])
    path = tmp_path / f"other.{kind}"
    if kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows([row["text"], " | ".join(row["label"])] for row in table)
    else:
        pq.write_table(
            pa.table({"text": [row["text"] for row in table], "label": [row["label"] for row in table]}), path
        )
    separator = ["data.label_separator='|'"] if kind == "csv" else []
    metrics = []
    for train_path, settings in ((tmp_path / "train.jsonl", []), (path, separator)):
        run = tmp_path / f"run-{train_path.suffix[1:]}"
        overrides = ["task=multilabel", f"data.train={train_path}", "data.test=null", "trainer.max_epochs=1", *settings]
        lx.train(lx.compose(tiny(tmp_path, *overrides, f"run_dir={run}")))
        metrics.append(result(run)["metrics"])
    assert metrics[0] == metrics[1]
