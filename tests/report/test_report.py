"""What `lx report` writes for runs and sweeps: files that are made here, read back."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("matplotlib")

import lx
from lx.cli.main import main
from lx.report.history import read_history
from lx.report.sweep_figures import expected_best
from lx.sweep.record import Record
from lx.sweep.trials import TrialDirectory
from support.report_runs import SCRIPT, write_run


class Elements(HTMLParser):
    """The tags of a page, the ids that links lead to, and the level of each heading."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.anchors: list[str] = []
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.add(value or "")
            elif name == "href" and tag == "a":
                self.anchors.append((value or "").removeprefix("#"))
            elif name in ("src", "href", "xlink:href"):
                self.addresses.append(value or "")


@pytest.mark.parametrize("number", [2, *(pytest.param(number, marks=pytest.mark.slow) for number in (30, 60))])
def test_the_page_of_a_run(number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [SCRIPT, "体育 & <b>", *(f"$x_{i}$" for i in range(2, number))]
    write_run(tmp_path / "run", names)
    assert main(["report", str(tmp_path / "run"), "--figures", str(tmp_path / "figures")]) == 0
    assert capfd.readouterr().out.strip() == str(tmp_path / "run" / "report.html")
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    page = Elements(html)
    assert "script" not in page.tags and "b" not in page.tags
    assert {"svg", "table", "h1"} <= set(page.tags) and page.tags.count("h1") == 1
    assert page.anchors and set(page.anchors) <= page.ids
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 2
    assert "\x00" not in html
    assert "Labels of the validation split that the run contradicts" in html and "1,234 texts were judged" in html
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    assert figures >= {"confusion.svg", "curve-loss.svg", "reliability.svg"}
    assert "curve-f1_macro.svg" not in figures  # one value is no curve


def test_a_run_without_metrics_or_predictions_says_what_is_missing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", ["a", "b"], with_predictions=False)
    run.metrics.unlink()
    assert main(["report", str(run.path)]) == 0
    html = (run.path / "report.html").read_text(encoding="utf-8")
    assert "logger=csv" in html and "There is no predictions.arrow" in html


def test_several_runs(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_run(tmp_path / str(seed), ["a", "b"], seed)
    assert main(["report", str(tmp_path / "0"), str(tmp_path / "1"), "--out", str(tmp_path / "both.html")]) == 0
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "folder.html")]) == 0
    html = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert (tmp_path / "folder.html").read_text(encoding="utf-8") == html
    assert "<td>status</td><td>finished</td><td>finished</td>" in html
    assert re.search(r"<td>seed</td><td[^>]*>0</td><td[^>]*>1</td>", html)
    verdict = lx.compare([tmp_path / "0", tmp_path / "1"]).pairs[0].verdict
    assert f">{verdict}</td>" in html and "95% interval" in html


def test_runs_that_cannot_be_compared_say_why(tmp_path: Path) -> None:
    for name, classes in (("run", ["a", "b"]), ("other", ["a", "b", "c"])):
        write_run(tmp_path / name, classes)
    assert main(["report", str(tmp_path / "run"), str(tmp_path / "other")]) == 0
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "their classes differ" in html and "95% interval" not in html


@pytest.mark.parametrize(
    "content", ['{"status": 3}', '{"status": "x", "metrics": []}', '{"status": "x", "per_class": 1}']
)
def test_a_damaged_run_gets_one_message(content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", ["a", "b"])
    run.result.write_text(content)
    assert main(["report", str(run.path)]) == 2
    error = capfd.readouterr().err
    assert error.startswith("lx: error: ") and error.count("\n") == 1
    assert not (run.path / "report.html").exists()


def test_history_leaves_out_what_is_not_whole(tmp_path: Path) -> None:
    history = read_history(write_run(tmp_path / "run", ["a", "b"]))
    assert history["train/loss"].steps.tolist() == [1, 3]
    assert history["val/loss"].values.tolist() == [0.8]


def test_expected_best_is_that_of_all_draws() -> None:
    """Against the maximum of every pair that can be drawn with replacement."""
    values = np.array([0.1, 0.5, 0.4])
    pairs = [max(a, b) for a in values for b in values]
    means, deviations = expected_best(values, "max")
    np.testing.assert_allclose(means[:2], [values.mean(), np.mean(pairs)])
    np.testing.assert_allclose(deviations[:2], [values.std(), np.std(pairs)])
    np.testing.assert_allclose(expected_best(-values, "min")[0], -means)


@pytest.mark.slow
def test_the_page_of_a_sweep(tmp_path: Path) -> None:
    overrides = ("sweep=random", "optimizer.lr=interval(0.01,1)")
    Record(overrides, None, "/", 1, None, "val/accuracy", "max", fixed=("data=trec",)).write(tmp_path)
    for number in range(8):
        params = {"optimizer.lr": str(0.01 * (number + 1)), "model": SCRIPT if number % 2 else "small"}
        trial = TrialDirectory(number, tmp_path / str(number), params, [0, 1], flat_seed=None)
        trial.save()
        for seed in (0, 1):
            run = trial.replicate(seed).run
            run.path.mkdir()
            reports = [{"validation": 1, "step": 5, "objective": 0.1, "final": False}]
            run.reports.write_text(json.dumps(reports))
            result = {"status": "finished", "objective": 0.1 * number + 0.01 * seed, "seconds": 1.0}
            run.result.write_text(json.dumps(result))
    assert main(["report", str(tmp_path), "--figures", str(tmp_path / "figures"), "--format", "png"]) == 0
    page = Elements((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags
    names = {"parallel", "importance", "history", "expected-best", "validations", "seeds"}
    assert {path.stem for path in (tmp_path / "figures").glob("*.png")} == names
    assert main(["report", str(tmp_path), str(tmp_path / "0")]) == 2
