from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lx.cli.main import main
from lx.errors import LxError
from lx.inference.evaluate import evaluate
from lx.inference.load import load_run
from support.corpus import write_rows
from support.run_files import result
from support.tiny_run import train_tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def of_test(path: Path) -> dict[str, float]:
    return {name: value for name, value in result(path)["metrics"].items() if name.startswith("test/")}


def test_metrics_equal_those_of_training(trained_run: Path) -> None:
    evaluation = evaluate(load_run(trained_run), ["hardware=cpu"])
    assert evaluation.metrics == of_test(trained_run)
    recorded = result(trained_run)
    assert evaluation.details["confusion_matrix"] == recorded["confusion_matrix"]
    assert evaluation.details["per_class"] == recorded["per_class"]


def test_the_same_data_by_name_gives_the_same_metrics(trained_run: Path) -> None:
    evaluation = evaluate(load_run(trained_run), ["hardware=cpu", f"data.test={trained_run.parent / 'test.jsonl'}"])
    assert evaluation.metrics == of_test(trained_run)


def test_pairs_give_the_metrics_of_training(tmp_path: Path) -> None:
    train_tiny(tmp_path, "data.text_pair=pair", "trainer.max_epochs=1")
    assert evaluate(load_run(tmp_path / "run"), ["hardware=cpu"]).metrics == of_test(tmp_path / "run")
    test = f"data.test={tmp_path / 'test.jsonl'}"
    assert evaluate(load_run(tmp_path / "run"), ["hardware=cpu", test]).metrics == of_test(tmp_path / "run")
    with pytest.raises(LxError, match="give the second text too"):
        evaluate(load_run(tmp_path / "run"), ["hardware=cpu", "data=files", test])


def test_empty_rows_are_dropped(trained_run: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "test.jsonl", 18, start=100)
    with path.open("a") as file:
        file.write('{"text": " ", "label": "food"}\n{"text": null, "label": null}\n')
    assert evaluate(load_run(trained_run), ["hardware=cpu", f"data.test={path}"]).metrics == of_test(trained_run)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('{"text": "a", "label": "spice"}', r"test\.jsonl:1: the label 'spice'"),
        ('{"text": "a", "label": null}', r"test\.jsonl:1: .*label"),
        ('{"text": " ", "label": "food"}', "all 1 texts are empty"),
        ('{"txt": "a", "label": "food"}', "no column 'text'"),
    ],
)
def test_data_that_does_not_fit(trained_run: Path, tmp_path: Path, row: str, says: str) -> None:
    (tmp_path / "test.jsonl").write_text(row + "\n")
    with pytest.raises(LxError, match=says):
        evaluate(load_run(trained_run), ["hardware=cpu", f"data.test={tmp_path / 'test.jsonl'}"])


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["data.text=body"], r"data\.test=FILE"),
        (["data=files"], r"data\.test=FILE"),
        (["model=base"], "not 'model=base'"),
        (["hardware.precison=32-true"], "did you mean 'hardware.precision'"),
    ],
)
def test_settings_that_make_no_sense(trained_run: Path, overrides: list[str], says: str) -> None:
    with pytest.raises(LxError, match=says):
        evaluate(load_run(trained_run), overrides)


@pytest.mark.slow
def test_each_data_has_a_file_that_says_what_it_is(trained_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained_run, tmp_path / "run")
    paths = [tmp_path / "other data.jsonl", tmp_path / "there" / "other data.jsonl", tmp_path / "文本.jsonl"]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        write_rows(path, 6 + number, start=200 + number)
    for data in ([], *([f"data.test={path}"] for path in paths), [f"data.test={paths[0]}"]):
        assert main(["eval", str(run), "hardware=cpu", *data]) == 0
    assert json.loads((run / "eval.json").read_text())["data"] == {"source": "the run's own test split", "rows": 18}
    others = [json.loads(path.read_text())["data"] for path in run.glob("eval-*.json")]
    assert {(data["source"], data["rows"]) for data in others} == {(str(path), 6 + i) for i, path in enumerate(paths)}
    assert len(others) == 3, "the same data again has the same file"
