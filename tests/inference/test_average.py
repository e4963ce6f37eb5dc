"""The runs of a sweep as one classifier."""

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
import torch

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.run.checkpoint import write_checkpoint
from lx.sweep.members import members
from support.corpus import jsonl
from support.run_files import result
from support.tiny_run import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
OBJECTIVES = {0: [0.5, 0.7], 1: [0.9, 0.4], 2: [0.6, 0.6]}  # of each trial, by seed: the second is the best


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def disturb(run: Path, seed: int) -> None:
    """Change the weights of a run, so that it says something else."""
    best = run / "checkpoints" / "best.ckpt"
    content = torch.load(best, weights_only=True)
    draw = torch.Generator().manual_seed(seed)
    content["weights"] = {
        name: tensor + torch.randn(tensor.shape, generator=draw) / 5 for name, tensor in content["weights"].items()
    }
    write_checkpoint(best, content)


def make_sweep(directory: Path, run: Path) -> Path:
    """A sweep of three trials with two seeds each, whose runs are one that was changed."""
    for trial, objectives in OBJECTIVES.items():
        for seed, objective in enumerate(objectives):
            replicate = directory / str(trial) / f"seed-{seed}"
            shutil.copytree(run, replicate)
            disturb(replicate, 10 * trial + seed)
            write_json(replicate / "result.json", {**result(run), "objective": objective})
        write_json(
            directory / str(trial) / "trial.json",
            {"params": {"optimizer.lr": str(trial)}, "seeds": [0, 1], "flat_seed": None},
        )
    write_json(directory / "sweep.json", {"metric": "val/accuracy", "mode": "max"})
    return directory


@pytest.fixture(scope="module")
def sweep(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_sweep(tmp_path_factory.mktemp("average") / "sweep", trained_run)


@pytest.fixture(scope="module")
def rows(trained_run: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (trained_run.parent / "test.jsonl").read_text().splitlines()]


def names(paths: list[Path]) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in paths]


def test_the_seeds_of_the_best_trial_or_the_best_runs(sweep: Path, trained_run: Path) -> None:
    assert names(members(sweep)) == ["1/seed-0", "1/seed-1"]
    assert names(members(sweep, 3)) == ["1/seed-0", "0/seed-1", "2/seed-0"]
    assert names(members(sweep / "0")) == ["0/seed-0", "0/seed-1"]
    assert members(trained_run) == [trained_run]


def test_an_average_is_the_mean_of_probabilities(sweep: Path, rows: list[dict[str, str]]) -> None:
    texts = [row["text"] for row in rows]
    runs = [lx.load(sweep / "1" / f"seed-{seed}", "cpu").predict(texts) for seed in (0, 1)]
    for prediction, *each in zip(lx.load(sweep, "cpu").predict(texts), *runs, strict=True):
        expected = {name: np.mean([one.probabilities[name] for one in each]) for name in prediction.probabilities}
        assert prediction.probabilities == pytest.approx(expected, abs=1e-6)
        assert prediction.label == max(expected, key=expected.__getitem__)


@pytest.mark.parametrize("top", [[], ["--top", "4"]])
@pytest.mark.parametrize("data", ["own", "named"])
def test_predictions_agree_with_the_evaluation(
    sweep: Path,
    rows: list[dict[str, str]],
    top: list[str],
    data: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    test = sweep.parent / "test.jsonl"
    test.write_text(jsonl([*rows, {"text": " ", "label": "food"}]))
    named = [f"data.test={test}"] if data == "named" else []
    assert main(["eval", str(sweep), "hardware=cpu", *named, *top, "--out", str(tmp_path / "eval.json")]) == 0
    runs = names(members(sweep, 4 if top else None))
    assert f"the average of {sweep}/{runs[0]}, " in capsys.readouterr().err
    evaluation = json.loads((tmp_path / "eval.json").read_text())
    assert evaluation["members"] == [f"{sweep}/{run}" for run in runs]
    assert evaluation["data"]["rows"] == len(rows)

    (tmp_path / "texts.jsonl").write_text(jsonl(rows))
    command = ["predict", str(sweep), str(tmp_path / "texts.jsonl"), *top, "--accelerator", "cpu", "--probabilities"]
    assert main(command) == 0
    predictions = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    metrics, pairs = evaluation["metrics"], list(zip(predictions, rows, strict=True))
    assert metrics["test/accuracy"] == np.mean([said["label"] == row["label"] for said, row in pairs])
    loss = -np.mean([np.log(said["probabilities"][row["label"]]) for said, row in pairs])
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-5)


def test_one_run_alone_is_evaluated_as_it_is(sweep: Path, trained_run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    shutil.copy(trained_run / "checkpoints" / "best.ckpt", copy / "1" / "seed-0" / "checkpoints")
    assert main(["eval", str(copy), "hardware=cpu", "--top", "1"]) == 0
    expected = {name: value for name, value in result(trained_run)["metrics"].items() if name.startswith("test/")}
    assert json.loads((copy / "eval.json").read_text())["metrics"] == expected


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "multilabel", "classification"])
def test_averages_of_other_tasks_and_of_other_tokens(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Members that read the rows in different pieces, one with an expert where the task takes one."""
    labels = {"regression": lambda i: i % 7 / 2, "multilabel": lambda i: [["a"], ["a", "b"], []][i % 3]}
    for split, count in (("train", 60), ("test", 20)):
        examples = [
            {"text": f"word{i % 7} {i % 3} {i}", "label": labels.get(task, lambda i: "ab"[i % 2])(i)}
            for i in range(count)
        ]
        (tmp_path / f"{split}.jsonl").write_text(jsonl(examples))
    sweep = tmp_path / "sweep"
    second = ["model/expert=linear", "model.expert.min_count=1"] if task == "classification" else []
    for seed, more in enumerate((["tokenizer=word"], ["tokenizer=char", *second])):
        run = f"run_dir={sweep / '0' / f'seed-{seed}'}"
        lx.train(lx.compose([*tiny(tmp_path, f"task={task}", run, f"seed={seed}", "trainer.max_epochs=4"), *more]))
    write_json(sweep / "0" / "trial.json", {"params": {}, "seeds": [0, 1], "flat_seed": None})
    objective = {"regression": "val/mse", "multilabel": "val/f1_micro"}.get(task, "val/accuracy")
    write_json(sweep / "sweep.json", {"metric": objective, "mode": "min" if task == "regression" else "max"})

    assert main(["eval", str(sweep), "hardware=cpu"]) == 0
    metrics = json.loads((sweep / "eval.json").read_text())["metrics"]
    texts = [row["text"] for row in examples]
    one, other = (lx.load(sweep / "0" / f"seed-{seed}", "cpu").predict(texts) for seed in (0, 1))
    average = lx.load(sweep, "cpu").predict(texts)
    if task == "regression":
        values = np.array([said.value for said in average])
        assert values == pytest.approx((np.array([p.value for p in one]) + [p.value for p in other]) / 2, abs=1e-5)
        errors = values - np.array([row["label"] for row in examples])
        assert metrics["test/mse"] == pytest.approx(np.mean(errors**2), rel=1e-4)
        return
    for said, first, second in zip(average, one, other, strict=True):
        expected = {name: (first.probabilities[name] + second.probabilities[name]) / 2 for name in said.probabilities}
        assert said.probabilities == pytest.approx(expected, abs=1e-5)
    if task == "multilabel":
        exact = np.mean([set(said.labels) == set(row["label"]) for said, row in zip(average, examples, strict=True)])
        assert metrics["test/subset_accuracy"] == pytest.approx(exact)
    else:
        right = np.mean([said.label == row["label"] for said, row in zip(average, examples, strict=True)])
        assert metrics["test/accuracy"] == pytest.approx(right)


def rename_class(sweep: Path) -> None:
    write_json(sweep / "1" / "seed-1" / "labels.json", ["bread", "music", "space"])


def remove_row(sweep: Path) -> None:
    path = sweep / "1" / "seed-1" / "test.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table.slice(1))


def lead_out(sweep: Path) -> None:
    write_json(sweep / "1" / "trial.json", {"params": {}, "seeds": ["x/../../../../outside"], "flat_seed": None})


def link_out(sweep: Path, path: Path) -> None:
    """Leave a link in the place of a directory, which goes out of the sweep."""
    shutil.move(path, sweep.parent / "outside")
    path.symlink_to(sweep.parent / "outside")


def link_a_device(sweep: Path) -> None:
    (sweep / "1" / "trial.json").unlink()
    os.mkfifo(sweep / "1" / "trial.json")


def spoil_an_objective(sweep: Path) -> None:
    write_json(sweep / "1" / "seed-0" / "result.json", {"status": "finished", "objective": {"a": "b"}})


def stop_all(sweep: Path) -> None:
    for path in sweep.rglob("result.json"):
        write_json(path, {"status": "stopped", "objective": 0.5})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (rename_class, "have no average: they have not the same classes, or not in the same order: bread, food"),
        (remove_row, "have different test splits: name one with data.test=FILE"),
        (lead_out, "is a damaged sweep"),
        (lambda sweep: link_out(sweep, sweep / "1"), "is a link, or lies beyond one"),
        (lambda sweep: link_out(sweep, sweep / "1" / "seed-1"), "is a link, or lies beyond one"),
        (link_a_device, "is no file"),
        (lambda sweep: write_json(sweep / "sweep.json", ["val/accuracy"]), "is a damaged sweep"),
        (spoil_an_objective, "is a damaged sweep"),
        (stop_all, "has finished: lx sweep resume"),
    ],
)
def test_what_has_no_average_is_refused(
    sweep: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    spoil(copy)
    assert main(["eval", str(copy), "hardware=cpu"]) == 2
    error = capfd.readouterr().err
    assert says in error and "Traceback" not in error


def test_what_is_neither_run_nor_sweep(tmp_path: Path, trained_run: Path) -> None:
    with pytest.raises(LxError, match="is neither a run nor a sweep, nor a folder of runs"):
        lx.load(tmp_path)
    with pytest.raises(LxError, match="no run directory"):
        lx.load(tmp_path / "nowhere")
    with pytest.raises(LxError, match=r"--top 2: .* is not a sweep"):
        lx.load(trained_run, top=2)


@pytest.mark.parametrize("out", ["sweep.json", "1/seed-0/result.json"])
def test_files_of_a_sweep_are_not_overwritten(sweep: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (sweep / out).read_text()
    assert main(["predict", str(sweep), "--text", "a", "--out", str(sweep / out)]) == 2
    assert "is a file of a run or sweep" in capsys.readouterr().err
    assert (sweep / out).read_text() == before
