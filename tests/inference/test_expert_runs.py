"""A linear expert beside the encoder, and alone, through every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import lx
from lx.cli.main import main
from lx.errors import LxError
from lx.inference.expert import read_expert, read_scores
from lx.linear.targets import KINDS as KINDS_OF_EXPERT
from lx.run.checkpoint import write_checkpoint
from lx.run.directory import RunDirectory
from lx.run.mistakes import read_mistakes
from lx.run.predictions import read_predictions
from support.corpus import write_rows
from support.hostile import config, link, truncate, write
from support.run_files import result
from support.tiny_run import tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

KINDS = {
    "beside": ["model/expert=linear", "model.expert.min_count=1"],
    "beside several": ["model/expert=linear", "model.expert.min_count=1", "model.num_members=2"],
    "alone": ["model=linear", "model.expert.min_count=1"],
}

WRONG = (17, 38)  # rows of the training split with another's label


def train(folder: Path, *overrides: str) -> None:
    """Train with a few hard examples, so that neither part is always right."""
    for split, count, start in (("train", 60, 0), ("validation", 24, 100), ("test", 19, 200)):
        write_rows(folder / f"{split}.jsonl", count, start)
        content = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for number, row in enumerate(content):
            if number % 5 == 0:
                row["text"] = f"{number % 7} {row['text'].split()[0][:3]}"
            if split == "train" and number in WRONG:
                row["label"] = content[number - 1]["label"]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    lx.train(lx.compose(command(folder, *overrides, f"data.validation={folder / 'validation.jsonl'}")))


def command(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a tiny training, without those of a network where there is none."""
    without = ("model", "tokenizer", "optimizer.lr") if "model=linear" in overrides else ()
    return [override for override in tiny(folder) if not override.startswith(without)] + list(overrides)


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    train(folder, *KINDS[request.param])
    return folder / "run"


def test_labels_of_the_training_split_that_the_expert_denies_are_kept_with_their_texts(trained: Path) -> None:
    mistakes = read_mistakes(RunDirectory(trained))
    rows = [json.loads(line) for line in (trained.parent / "train.jsonl").read_text().splitlines()]
    assert list(mistakes) == ["validation", "test", "train"]
    assert {mistake["row"] for mistake in mistakes["train"]} >= set(WRONG)
    for mistake in mistakes["train"]:
        assert mistake["label"] != mistake["prediction"] and mistake["probability"] > 1 / 3
        assert [rows[mistake["row"]][name] for name in ("text", "label")] == [mistake["text"], mistake["label"]]
    assert result(trained)["expert"]["held_out"] == len(rows)


def test_evaluation_repeats_the_metrics_of_the_run_and_so_does_its_test_file(trained: Path, tmp_path: Path) -> None:
    expected = {name: value for name, value in result(trained)["metrics"].items() if name.startswith("test/")}
    assert (
        ("test/encoder_accuracy" in expected)
        == ("test/expert_accuracy" in expected)
        == (trained.parent.name[:6] == "beside")
    )
    for data in ([], [f"data.test={trained.parent / 'test.jsonl'}"]):
        out = tmp_path / f"{len(data)}.json"
        assert main(["eval", str(trained), "hardware=cpu", *data, "--out", str(out)]) == 0
        assert json.loads(out.read_text())["metrics"] == expected


def test_predictions_agree_with_the_evaluation_in_order(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [json.loads(line) for line in (trained.parent / "test.jsonl").read_text().splitlines()]
    texts = [row["text"] for row in examples]
    whole = lx.load(trained, "cpu").predict(texts)
    accuracy = np.mean([row["label"] == said.label for row, said in zip(examples, whole, strict=True)])
    assert accuracy == result(trained)["metrics"]["test/accuracy"]
    losses = [-np.log(said.probabilities[row["label"]]) for row, said in zip(examples, whole, strict=True)]
    assert np.mean(losses) == pytest.approx(result(trained)["metrics"]["test/loss"], rel=1e-4)
    kept = read_predictions(RunDirectory(trained)).splits["test"]
    assert kept.scores == pytest.approx(np.array([list(said.probabilities.values()) for said in whole]), abs=1e-6)
    monkeypatch.setattr("lx.inference.stream._CHUNK", 4)
    in_chunks = lx.load(trained, "cpu").predict(texts)
    assert [said.text for said in in_chunks] == texts
    assert [said.label for said in in_chunks] == [said.label for said in whole]
    assert lx.load(trained, "cpu").predict([]) == []


def test_the_result_says_what_was_joined(trained: Path) -> None:
    content = result(trained)
    assert (
        content["expert"].keys() == {"ngrams", "C", "refit", "held_out", "seconds"}
        and content["expert"]["refit"] is True
    )
    weights = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)["choices"]
    assert content["choices"] == weights
    assert weights["encoder_weight"] not in (0.5, 1.0)


@pytest.mark.slow
def test_an_expert_alone_takes_no_steps(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    train(tmp_path, *KINDS["alone"])
    content = result(tmp_path / "run")
    assert content["steps"] == content["epochs"] == content["parameters"] == 0
    assert content["metrics"]["test/accuracy"] > 0.5
    assert main(["resume", str(tmp_path / "run")]) == 0
    assert "has finished" in capfd.readouterr().out
    settings = [word for word in command(tmp_path, *KINDS["alone"]) if not word.startswith("run_dir")]
    assert main(["check", *settings]) == 0
    said = capfd.readouterr()
    assert "all good" in said.out and "fitting" not in said.err
    assert main(["bench", *settings]) == 2
    assert "takes no optimizer steps" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_of_texts(kind: str, tmp_path: Path) -> None:
    train(tmp_path, *KINDS[kind], "data.text_pair=pair")
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    texts, pairs = [row["text"] for row in rows], [row["pair"] for row in rows]
    said = lx.load(tmp_path / "run", "cpu").predict(texts, pairs)
    accuracy = np.mean([row["label"] == each.label for row, each in zip(rows, said, strict=True)])
    assert accuracy == result(tmp_path / "run")["metrics"]["test/accuracy"]
    with pytest.raises(LxError, match="labels pairs of texts"):
        lx.load(tmp_path / "run", "cpu").predict(texts)


OTHER_TASKS = {
    "regression": (["task=regression"], ["encoder_mse", "expert_mse", "encoder_pearson", "expert_pearson"]),
    "multilabel": (
        ["task=multilabel", "data.label_separator=|"],
        ["encoder_mean_average_precision", "expert_mean_average_precision"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHER_TASKS)
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_and_label_sets(kind: str, task: str, tmp_path: Path) -> None:
    labels = {"cats": (1.5, "a"), "ships": (-2.0, "b|c"), "trees": (0.25, "a|c")}
    draw = np.random.default_rng(0)
    for split, count in (("train", 90), ("validation", 30), ("test", 20)):
        names = draw.choice(list(labels), count)
        rows = [{"text": f"{name} number {draw.integers(9)}", "label": labels[name]} for name in names]
        lines = [json.dumps({**row, "label": row["label"][task == "multilabel"]}) for row in rows]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(lines))
    settings, parts = OTHER_TASKS[task]
    lx.train(lx.compose(command(tmp_path, *settings, *KINDS[kind], f"data.validation={tmp_path / 'validation.jsonl'}")))
    run = tmp_path / "run"
    expected = {name: value for name, value in result(run)["metrics"].items() if name.startswith("test/")}
    assert all((f"test/{part}" in expected) == (kind != "alone") for part in parts)
    assert expected["test/mse" if task == "regression" else "test/loss"] < 0.1
    for data in ([], [f"data.test={tmp_path / 'test.jsonl'}"]):
        assert main(["eval", str(run), "hardware=cpu", *data, "--out", str(tmp_path / "out.json")]) == 0
        assert json.loads((tmp_path / "out.json").read_text())["metrics"] == expected
    texts = [json.loads(line)["text"] for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    said = lx.load(run, "cpu").predict(texts)
    shown = [list(each.probabilities.values()) if task == "multilabel" else [each.value] for each in said]
    assert read_predictions(RunDirectory(run)).splits["test"].scores == pytest.approx(np.array(shown), abs=1e-5)
    assert list(read_mistakes(RunDirectory(run))) == ["validation", "test", "train"]
    assert (task == "regression" or kind == "alone") or result(run)["choices"]["expert_weight"] > 0
    assert main(["explain", str(run), "--text", texts[0]]) == 0


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 3), np.float32),
        np.zeros((5, 3), np.float64),
        np.full((5, 3), np.nan, np.float32),
        np.full((5, 3), -np.inf, np.float32),
        np.array([[None] * 3] * 5),
    ],
)
def test_scores_of_a_stranger_are_checked(values: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    with pytest.raises(LxError, match=r"x\.npy"):
        read_scores(tmp_path / "x.npy", 5, 3)
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(LxError, match=r"x\.npy"):
        read_scores(tmp_path / "x.npy", 5, 3)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {}, {"weights": 1}, {"weights": torch.ones(2, 2)}, {"weights": torch.ones(1, 1).expand(9**9, 10)}],
)
def test_tensors_of_a_stranger_are_checked(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(LxError, match=r"x\.pt (is damaged|cannot be used)"):
        read_expert(tmp_path / "x.pt")


def spoil_kind(run: Path) -> None:
    tensors = torch.load(run / "linear.pt", weights_only=True)
    torch.save({**tensors, "kind": torch.tensor(KINDS_OF_EXPERT.index("number"))}, run / "linear.pt")


def spoil_weight(run: Path) -> None:
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["choices"]["expert_weight"] = float("inf")
    write_checkpoint(run / "checkpoints" / "best.ckpt", content)


@pytest.mark.parametrize("trained", ["beside"], indirect=True)
@pytest.mark.parametrize(
    ("spoil", "says"),
    {
        "no expert": (lambda run: (run / "linear.pt").unlink(), "linear.pt is missing"),
        "a link": (link("linear.pt"), "linear.pt is a link"),
        "a truncated file": (truncate("linear.pt"), "linear.pt is "),
        "a pickle": (write("linear.pt", b"cos\nsystem\n(S'touch touched'\ntR."), "linear.pt is "),
        "of other classes": (
            lambda run: torch.save(
                {
                    name: value[..., :1] if name in ("weights", "bias") else value
                    for name, value in torch.load(run / "linear.pt", weights_only=True).items()
                },
                run / "linear.pt",
            ),
            "linear.pt does not fit",
        ),
        "a network that is not there": (config("model", {"_target_": "lx.nn.expert_alone.ExpertAlone"}), "fit"),
        "an expert of numbers": (spoil_kind, "linear.pt does not fit"),
        "a weight that is none": (
            spoil_weight,
            "best.ckpt does not fit the task of run/config.yaml: the weights chosen",
        ),
        "no scores": (lambda run: (run / "linear_test.npy").unlink(), "linear_test.npy is missing"),
        "a link to scores": (link("linear_test.npy"), "linear_test.npy is a link"),
        "other scores": (
            lambda run: np.save(run / "linear_test.npy", np.zeros((2, 3), np.float32)),
            "linear_test.npy does not hold",
        ),
    }.values(),
)
def test_a_hostile_directory_is_refused(
    spoil: Callable[[Path], object],
    says: str,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "run")
    spoil(tmp_path / "run")
    assert main(["eval", "run", "hardware=cpu"]) == 2
    assert says in capfd.readouterr().err
    assert not (tmp_path / "touched").exists()


def test_a_failed_run_leaves_its_name_free(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    RunDirectory(tmp_path / "run").discard()
    assert not (tmp_path / "run").exists()
