"""lx compare: what it says of runs whose predictions are made up, and which ones it refuses to compare."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from numpy.typing import NDArray

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.run.directory import RunDirectory
from lx.run.predictions import predictions_schema, read_predictions, write_predictions
from lx.sweep.trials import TrialDirectory

CLASSIFICATION, REGRESSION = "lx.tasks.classification.Classification", "lx.tasks.regression.Regression"


def make_run(
    path: Path,
    share: float,
    seed: int = 0,
    rows: int = 600,
    task: str = CLASSIFICATION,
    texts: str = "texts",
    labels: int = 0,
    names: tuple[str, ...] = ("no", "yes"),
    split: str = "test",
    weight: NDArray[np.float64] | None = None,
    **settings: Any,
) -> Path:
    """Write the files of a run that is right on a share of its rows, or wrong by so much; some are hard for all."""
    run = RunDirectory(path)
    path.mkdir(parents=True)
    random = np.random.default_rng([seed, round(1000 * share)])
    hardness = np.random.default_rng(0).random(rows)
    metric = (hardness + random.normal(0, 0.1, rows) < share).astype(float)
    if task == REGRESSION:
        metric = share * (0.5 + hardness) + random.random(rows) / 10
    run.write_config({"name": path.name, "seed": seed, "run_dir": str(path), "task": {"_target_": task}, **settings})
    run.result.write_text(json.dumps({"status": "finished", "metrics": {f"{split}/accuracy": metric.mean()}}))
    sizes = {"vocab_size": 9, "num_outputs": 2, "num_token_types": 1, "label_set": {"class_counts": [1, 1]}}
    run.model.write_text(json.dumps(sizes))
    run.labels.write_text(json.dumps(names))
    schema = predictions_schema(pa.int32(), 2, "mse" if task == REGRESSION else "accuracy", {split: texts})
    columns = [
        pa.array([split] * rows),
        pa.array(np.arange(rows)),
        pa.array(np.full(rows, labels, np.int32)),
        pa.FixedSizeListArray.from_arrays(pa.array(np.full(2 * rows, 0.5, np.float32)), 2),
        pa.array(np.zeros(rows, np.float32)),
        pa.array(metric),
        pa.array(np.ones(rows) if weight is None else weight),
    ]
    write_predictions(run, schema, [pa.record_batch(columns, schema=schema)])
    return path


def test_two_runs_that_differ(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good = make_run(tmp_path / "good", 0.9, optimizer={"lr": 0.1, "eps": 1.0})
    bad = make_run(tmp_path / "bad", 0.7, optimizer={"lr": 0.2, "eps": 1.0, "foreach": None})
    comparison = lx.compare([good, bad])
    (pair,) = comparison.pairs
    assert comparison.settings == {"optimizer.lr": [0.1, 0.2]}
    values = comparison.results["test/accuracy"]
    assert pair.difference.estimate == pytest.approx(values[0][0] - values[1][0])  # type: ignore[index]
    assert pair.difference.low > 0 and pair.probability > 0.99 and pair.mcnemar_p is not None and pair.mcnemar_p < 0.01
    assert pair.verdict.startswith("good is better than bad; one seed each")
    assert main(["compare", str(bad), str(good)]) == 0
    said = capfd.readouterr().out
    assert "optimizer.lr" in said and "optimizer.eps" not in said and "run_dir" not in said
    assert "good is better than bad" in said and "accuracy on 600 rows of test" in said


def test_one_seed_each_cannot_tell(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), 0.8, seed) for seed in (0, 1)]
    (pair,) = lx.compare(runs).pairs
    assert pair.verdict == "cannot tell with one seed each: run 3 or more of each"
    assert pair.difference.low < 0 < pair.difference.high and pair.adjusted_p > 0.05


def test_seeds_are_replicates(tmp_path: Path) -> None:
    shares = {"a": [0.80, 0.82, 0.81, 0.83, 0.81], "b": [0.80, 0.79, 0.81, 0.80, 0.78], "c": [0.6] * 5}
    for name, each in shares.items():
        for seed, share in enumerate(each):
            make_run(tmp_path / name / f"seed-{seed}", share, seed, model={"dim": name})
    comparison = lx.compare([tmp_path / name for name in shares])
    assert comparison.seeds == {name: [0, 1, 2, 3, 4] for name in shares}
    assert [(pair.a, pair.b, pair.num_seeds) for pair in comparison.pairs] == [
        (a, b, (5, 5)) for a, b in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    close, *far = comparison.pairs
    assert close.verdict.startswith("cannot tell with 5 seeds each; about ")
    assert close.verdict.endswith(" more each would do")
    assert [pair.verdict for pair in far] == ["a is better than c", "b is better than c"]
    assert all(pair.mcnemar_p is None and pair.adjusted_p >= pair.difference.p_value for pair in comparison.pairs)
    assert comparison.results["test/accuracy"][2][1] is not None  # type: ignore[index]


def test_of_errors_less_is_better(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, share, task=REGRESSION) for name, share in (("near", 0.5), ("off", 0.9))]
    (pair,) = lx.compare(runs).pairs
    assert pair.difference.high < 0 and pair.probability > 0.99 and pair.mcnemar_p is None
    assert pair.verdict.startswith("near is better than off")


def test_a_metric_that_is_a_ratio_of_sums(tmp_path: Path) -> None:
    """Of each example with a weight, as F1 has; a run without a difference has none by that ratio either."""
    weight = np.random.default_rng(5).integers(1, 5, 600).astype(float)
    runs = [make_run(tmp_path / name, share, weight=weight) for name, share in (("good", 0.9), ("bad", 0.7))]
    (pair,) = lx.compare(runs).pairs
    right = [read_predictions(RunDirectory(run)).splits["test"].metric.sum() for run in runs]
    assert pair.difference.estimate == pytest.approx((right[0] - right[1]) / weight.sum())
    assert pair.difference.low > 0 and pair.mcnemar_p is None


def test_a_sweep(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number, model in enumerate(("bag", "small", "tiny")):
        trial = TrialDirectory(number, tmp_path / "sweep" / str(number), {"model": model}, [0, 1], flat_seed=None)
        trial.save()
        for seed in (0, 1) if model != "tiny" else ():
            make_run(trial.replicate(seed).run.path, 0.8 + number / 100, seed, model={"name": model})
    (tmp_path / "sweep" / "sweep.json").write_text("{}")
    comparison = lx.compare([tmp_path / "sweep"])
    assert comparison.names == ["model=bag", "model=small"] and comparison.seeds["model=bag"] == [0, 1]
    assert "1 trial without a finished run left out" in capfd.readouterr().err
    single = make_run(tmp_path / "single", 0.8)
    assert lx.compare([tmp_path / "sweep", single]).names == ["sweep: model=bag", "sweep: model=small", "single"]
    assert lx.compare([tmp_path / "sweep" / "0", single]).names == ["sweep/0", "single"]
    grown = TrialDirectory(3, tmp_path / "sweep" / "3", {"model": "base"}, [0, 1], flat_seed=0)
    for seed in grown.seeds:  # the first run of a trial that began with one seed lies in its own directory
        make_run(grown.replicate(seed).run.path, 0.8, seed)
    grown.save()
    assert lx.compare([grown.path, single]).seeds == {"sweep/3": [0, 1], "single": [0]}


def test_files(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, 0.8, seed, data={"test": "a|b"}) for seed, name in enumerate(("a|<b>", "b"))]
    for suffix in ("csv", "json", "md"):
        assert main(["compare", *map(str, runs), "--out", str(tmp_path / f"out.{suffix}")]) == 0
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    (pair,) = json.loads((tmp_path / "out.json").read_text())["pairs"]
    assert (row["a"], row["b"], row["verdict"]) == (pair["a"], pair["b"], pair["verdict"])
    assert float(row["difference"]) == pair["difference"]["estimate"]
    markdown = (tmp_path / "out.md").read_text()
    assert r"|  | a\|\<b\> | b |" in markdown and "| --- | --- | --- |" in markdown and pair["verdict"] in markdown


def changed(**changes: Any) -> Callable[[Path], list[Path]]:
    """A run beside which another one has some things changed."""

    def make(folder: Path) -> list[Path]:
        return [make_run(folder / "a", 0.8), make_run(folder / "b", **{"share": 0.8, "seed": 1, **changes})]

    return make


def replicates(**changes: Any) -> Callable[[Path], list[Path]]:
    """A folder of two runs, the second with some things changed, and a run beside it."""

    def make(folder: Path) -> list[Path]:
        changed(**changes)(folder / "c")
        return [folder / "c", make_run(folder / "d", 0.8)]

    return make


def spoilt(name: str, content: str) -> Callable[[Path], list[Path]]:
    """Two runs, one of which has a file of other content."""

    def make(folder: Path) -> list[Path]:
        runs = changed()(folder)
        (runs[1] / name).write_text(content)
        return runs

    return make


def many(folder: Path) -> list[Path]:
    return [make_run(folder / str(number), 0.8, number, rows=5) for number in range(13)]


def test_nothing_to_compare() -> None:
    with pytest.raises(LxError, match="name two runs"):
        lx.compare([])


REFUSED: dict[str, tuple[Callable[[Path], list[Path]], str]] = {
    "one run": (lambda folder: [make_run(folder / "a", 0.8)], "/a with: name another run"),
    "one run twice": (lambda folder: [make_run(folder / "a", 0.8)] * 2, "a is named twice"),
    "thirteen": (many, "13 contenders are too many"),
    "fewer rows": (changed(rows=7), "test splits have 600 and 7 rows"),
    "other texts": (changed(texts="others"), "the texts of their test splits differ"),
    "other labels": (changed(labels=1), "the labels of their test splits differ"),
    "other classes": (changed(names=("yes", "no")), "their classes differ"),
    "another task": (changed(task=REGRESSION), "their tasks differ"),
    "no test split": (changed(split="validation"), "has no predictions of a test split"),
    "replicates of two settings": (replicates(optimizer={"lr": 1}), "no replicates, they differ in optimizer.lr"),
    "replicates of one seed": (replicates(seed=0), "several runs with one seed"),
    "no runs": (lambda folder: [folder, folder], "neither a run nor a sweep"),
    "no directory": (lambda folder: [folder / "x", folder / "y"], "no run directory"),
    "no predictions": (lambda folder: [make_old(folder / "a"), make_run(folder / "b", 0.8)], "holds no predictions"),
    "a config that is none": (spoilt("config.yaml", "[]"), "does not hold a configuration"),
    "a config without a task": (spoilt("config.yaml", yaml.safe_dump({"seed": 1})), "has no task"),
    "a result that is none": (spoilt("result.json", "[]"), "does not say the status"),
    "labels that are none": (spoilt("labels.json", "{"), "labels.json"),
    "an empty sweep": (lambda folder: [(folder / "sweep.json").write_text("{}") and folder, folder], "has finished"),
}


def make_old(path: Path) -> Path:
    """A run of an lx that kept no predictions."""
    (make_run(path, 0.8) / "predictions.arrow").unlink()
    return path


@pytest.mark.parametrize(("make", "says"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compared(
    make: Callable[[Path], list[Path]], says: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = make(tmp_path)
    with pytest.raises(LxError, match=says):
        lx.compare(iter(paths))
    assert main(["compare", *map(str, paths)]) == 2
    assert says in capfd.readouterr().err


def test_validation_stands_in_where_no_run_was_tested(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / str(seed), 0.8, seed, split="validation") for seed in (0, 1)]
    assert lx.compare(runs).split == "validation"


def test_bad_names_of_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    runs = [make_run(tmp_path / str(seed), 0.8, seed) for seed in (0, 1)]
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "out.html")]) == 2
    assert ".csv, .json, .md" in capfd.readouterr().err
    assert main(["compare", *map(str, runs), "--out", str(runs[1] / "result.json")]) == 2
    assert "a file of a run or sweep" in capfd.readouterr().err


def test_runs_of_training(trained_run: Path, tmp_path: Path) -> None:
    """A real run and itself do not differ."""
    copy = tmp_path / "copy"
    copy.symlink_to(trained_run)
    (pair,) = lx.compare([trained_run, copy]).pairs
    assert pair.difference.estimate == 0 and pair.probability == 0.5
    assert pair.verdict.startswith("cannot tell")
