"""What a run says of each row of validation and test is kept, in input order, and read back without trusting it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.predictions import predictions_schema, read_predictions, write_predictions
from lx.training import predictions
from lx.training.callbacks import predictions as callback
from support.corpus import examples
from support.hostile import Spoil, link, write
from support.run_files import result
from support.tiny_run import tiny, train_tiny
from support.unbounded import sparse

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def read(run: Path) -> dict[str, Any]:
    return read_predictions(RunDirectory(run)).splits


def test_they_are_those_of_the_classifier_and_the_metrics_in_input_order(trained_run: Path) -> None:
    kept = read_predictions(RunDirectory(trained_run))
    assert kept.metric == "accuracy" and list(kept.splits) == ["validation", "test"]
    metrics = result(trained_run)["metrics"]
    for prefix, split in (("val", kept.splits["validation"]), ("test", kept.splits["test"])):
        assert split.metric.mean() == metrics[f"{prefix}/accuracy"]
        assert split.loss.mean() == pytest.approx(metrics[f"{prefix}/loss"], rel=1e-6)
        assert (split.scores.argmax(axis=1) == split.labels).astype(float).tolist() == split.metric.tolist()
    rows = examples(18, start=100)
    test, names = kept.splits["test"], json.loads((trained_run / "labels.json").read_text())
    assert test.rows.tolist() == list(range(18))
    assert [names[label] for label in test.labels] == [row["label"] for row in rows]
    said = lx.load(trained_run, "cpu").predict([row["text"] for row in rows])
    assert test.scores == pytest.approx(np.array([list(each.probabilities.values()) for each in said]), abs=1e-6)


def test_the_gravest_mistakes_with_their_texts(trained_run: Path) -> None:
    content = json.loads((trained_run / "mistakes.json").read_text())
    test, names = read(trained_run)["test"], json.loads((trained_run / "labels.json").read_text())
    wrong = np.flatnonzero(test.metric == 0)
    gravest = wrong[np.argsort(-test.scores[wrong].max(axis=1), kind="stable")]
    assert len(gravest) and list(content) == ["validation", "test"]
    texts = [row["text"] for row in examples(18, start=100)]
    assert content["test"] == [
        {
            "row": row,
            "text": texts[row],
            "label": names[test.labels[row]],
            "prediction": names[test.scores[row].argmax()],
            "probability": pytest.approx(test.scores[row].max(), abs=1e-6),
        }
        for row in gravest.tolist()
    ]


def test_reliability_is_in_the_result(trained_run: Path) -> None:
    scaled = result(trained_run)["reliability"]["scaled"]
    count, confidence, accuracy = (np.array(scaled[name]) for name in ("count", "confidence", "accuracy"))
    test, metrics = read(trained_run)["test"], result(trained_run)["metrics"]
    assert len(count) == 15 and count.sum() == 18
    assert count @ confidence == pytest.approx(test.scores.max(axis=1).sum(), rel=1e-6)
    assert count @ accuracy == pytest.approx(test.metric.sum())
    error = count @ np.abs(confidence - accuracy) / 18
    assert error == pytest.approx(metrics["test/calibration_error"], abs=1e-9)


@pytest.mark.slow
def test_small_chunks_few_mistakes_no_texts_and_a_longer_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictions, "_ROWS", 5)
    monkeypatch.setattr(predictions, "_MOST_MISTAKES", 3)
    monkeypatch.setattr(callback, "_BATCHES", 1)
    train_tiny(tmp_path, "data.keep_texts=false", "optimizer.lr=1e-6", "data.max_length=4")
    run = tmp_path / "run"
    before, mistakes = read(run), json.loads((run / "mistakes.json").read_text())["test"]
    assert before["test"].rows.tolist() == list(range(18))
    assert [set(mistake) for mistake in mistakes] == [{"row", "label", "prediction", "probability"}] * 3
    assert mistakes[0]["probability"] >= mistakes[1]["probability"] >= mistakes[2]["probability"]
    files = {name: (run / name).read_bytes() for name in ("predictions.arrow", "mistakes.json")}
    assert main(["eval", str(run), f"data.test={tmp_path / 'train.jsonl'}", "hardware=cpu"]) == 0
    assert files == {name: (run / name).read_bytes() for name in files}
    assert main(["resume", str(run), "launch=inline", "trainer.max_epochs=+1"]) == 0
    after = read(run)
    assert after["test"].metric.mean() == result(run)["metrics"]["test/accuracy"]
    assert after["validation"].loss.mean() == pytest.approx(result(run)["metrics"]["val/loss"], rel=1e-6)
    assert not list(run.glob(".*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_note_mistakes", "mistakes"])
def test_a_write_that_fails_leaves_a_run_that_goes_on(
    name: str, trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of predictions.arrow, or before mistakes.json."""

    def failing(*args: Any) -> None:
        raise LxError("no room")

    settings = lx.compose(tiny(trained_run.parent, f"run_dir={tmp_path / 'run'}"))
    with monkeypatch.context() as patch:
        patch.setattr(predictions._Split, name, failing)
        with pytest.raises(LxError, match="no room"):
            lx.train(settings)
    run = tmp_path / "run"
    assert result(run)["status"] == "failed" and not (run / "mistakes.json").exists()
    assert (run / "predictions.arrow").exists() == (name == "mistakes")
    assert main(["resume", str(run), "launch=inline"]) == 0
    for file in ("predictions.arrow", "mistakes.json"):
        assert (run / file).read_bytes() == (trained_run / file).read_bytes()
    assert not [path for path in run.iterdir() if path.name.endswith(".tmp")]


def columns(**changes: Any) -> dict[str, pa.Array]:
    """Two rows of a classification into three classes."""
    scores = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 0.25, 0.25] * 2, pa.float32()), 3)
    good = {
        "split": pa.array(["test", "test"]),
        "row": pa.array([0, 1]),
        "label": pa.array([0, 2], pa.int32()),
        "scores": scores,
        "loss": pa.array([0.5, 1.5], pa.float32()),
        "metric": pa.array([1.0, 0.0]),
        "weight": pa.array([1.0, 1.0]),
    }
    return {**good, **changes}


def arrow(schema: pa.Schema | None = None, options: pa.ipc.IpcWriteOptions | None = None, **changes: Any) -> Spoil:
    """Write a file with some columns changed."""
    values = columns(**changes)
    schema = predictions_schema(pa.int32(), 3, "accuracy", {"test": "x"}) if schema is None else schema

    def spoil(run: Path) -> None:
        batch = pa.RecordBatch.from_arrays(list(values.values()), names=list(values))
        batch = batch.replace_schema_metadata(schema.metadata)
        path = str(run / "predictions.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=options) as out:
            out.write_batch(batch)

    return spoil


def test_a_file_of_two_rows(tmp_path: Path) -> None:
    arrow()(tmp_path)
    test = read(tmp_path)["test"]
    assert test.labels.tolist() == [0, 2] and test.texts == "x" and test.scores.shape == (2, 3)


def test_a_file_of_before_without_weights(tmp_path: Path) -> None:
    values = columns()
    del values["weight"]
    schema = predictions_schema(pa.int32(), 3, "accuracy", {}).remove(6)
    write_predictions(RunDirectory(tmp_path), schema, [pa.record_batch(list(values.values()), schema=schema)])
    assert read(tmp_path)["test"].weight.tolist() == [1, 1]


def test_sets_of_labels_and_numbers(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for labels, expected in (
        (pa.array([[2, 0], []], pa.list_(pa.int32())), [[True, False, True], [False] * 3]),
        (pa.array([1.5, -2.0]), [1.5, -2.0]),
    ):
        schema = predictions_schema(labels.type, 3, "mse", {})
        write_predictions(run, schema, [pa.record_batch(list(columns(label=labels).values()), schema=schema)])
        assert read(tmp_path)["test"].labels.tolist() == expected


NAN = pa.FixedSizeListArray.from_arrays(pa.array([float("nan")] * 6, pa.float32()), 3)
SPOILT: dict[str, tuple[Spoil, str]] = {
    "none": (lambda run: None, "holds no predictions"),
    "a link": (lambda run: (arrow()(run), link("predictions.arrow")(run))[1], "is a link"),
    "a pipe": (lambda run: os.mkfifo(run / "predictions.arrow"), "not a regular file"),
    "text": (write("predictions.arrow", "split,row"), "not a whole Arrow file"),
    "8 GB": (lambda run: (write("predictions.arrow", "")(run), sparse("predictions.arrow")(run))[1], "bytes"),
    "nothing in it": (write("predictions.arrow", b""), "not a whole Arrow file"),
    "bytes": (write("predictions.arrow", b"ARROW1\0\0" + b"\xff" * 64 + b"ARROW1"), "not a whole Arrow file"),
    "compressed": (arrow(options=pa.ipc.IpcWriteOptions(compression="zstd")), "not a whole Arrow file"),
    "a column of another type": (arrow(row=pa.array([0, 1], pa.int32())), "does not hold predictions"),
    "other labels": (arrow(label=pa.array(["a", "b"])), "does not hold predictions"),
    "no scores": (arrow(scores=pa.array([1.0, 2.0])), "does not hold predictions"),
    "no metadata": (arrow(pa.schema([])), "does not say which metric"),
    "other metadata": (arrow(pa.schema([], metadata={"lx": "[" * 9000})), "does not say which metric"),
    "texts that are a list": (arrow(pa.schema([], metadata={"lx": '{"metric": "a", "texts": [1]}'})), "does not say"),
    "a gap": (arrow(loss=pa.array([0.5, None], pa.float32())), "gaps"),
    "another split": (arrow(split=pa.array(["test", "train\n"])), "splits"),
    "a row twice": (arrow(row=pa.array([1, 1])), "order"),
    "a row below 0": (arrow(row=pa.array([-1, 1])), "order"),
    "a class beyond": (arrow(label=pa.array([0, 3], pa.int32())), "beyond its 3 scores"),
    "not a number": (arrow(scores=NAN), "not finite"),
    "a weight that is none": (arrow(weight=pa.array([1.0, float("nan")])), "not finite"),
    "an endless loss": (arrow(loss=pa.array([0.5, float("inf")], pa.float32())), "not finite"),
}


@pytest.mark.parametrize(("spoil", "says"), SPOILT.values(), ids=SPOILT)
def test_a_strangers_file_is_refused(spoil: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    spoil(run)
    with pytest.raises(LxError, match=says) as error:
        read(run)
    assert len(str(error.value).replace(str(run), "run")) < 500 and "\n" not in str(error.value)


def test_a_split_whose_texts_have_no_labels_at_all(tmp_path: Path) -> None:
    """Of lists that are all empty, Arrow keeps no values."""
    run = RunDirectory(tmp_path)
    schema = predictions_schema(pa.list_(pa.int32()), 2, "f1_micro", {"test": "a"})
    numbers = [pa.array([0.0, 0.0], schema.field(name).type) for name in ("loss", "metric", "weight")]
    scores = pa.FixedSizeListArray.from_arrays(pa.array([0.1] * 4, pa.float32()), 2)
    labels = pa.array([[], []], pa.list_(pa.int32()))
    columns = [pa.array(["test", "test"]), pa.array([0, 1]), labels, scores, *numbers]
    write_predictions(run, schema, [pa.record_batch(columns, schema=schema)])
    assert read(tmp_path)["test"].labels.tolist() == [[False, False], [False, False]]


def test_damage_anywhere_is_refused_or_read_within_bounds(trained_run: Path, tmp_path: Path) -> None:
    """Every 7th byte flipped: an LxError, or arrays of the right shape."""
    content = (trained_run / "predictions.arrow").read_bytes()
    (tmp_path / "run").mkdir()
    for place in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        (tmp_path / "run" / "predictions.arrow").write_bytes(damaged)
        try:
            splits = read(tmp_path / "run")
        except LxError:
            continue
        for split in splits.values():
            assert len(split.rows) == len(split.labels) == len(split.scores) == len(split.loss) == len(split.metric)
    shutil.rmtree(tmp_path / "run")
