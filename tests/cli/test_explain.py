"""``lx explain`` on a run: what a terminal and a page show, and what is refused."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import lx
from lx.cli.main import main
from lx.report.explanation import AttentionLayer, Explanation, ScoreShares, ShownText
from lx.report.explanation_page import explanation_page

pytest.importorskip("captum")


def shown(run: Path, capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["explain", str(run), *arguments]) == 0
    return capfd.readouterr().out


def test_a_text_is_explained_without_colours_too(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = shown(trained_run, capfd, "--text", "bread onion zebra")
    assert out.startswith("predicted: ")
    assert "bread onion zebra" in out and "\x1b" not in out
    table = re.findall(r"│ (\w+) +│ +([+-]\d\.\d{3}) │ ([█░]*) *│", out)
    assert {word for word, *_ in table} == {"bread", "onion", "zebra"}
    assert all("█" not in bar if share.startswith("-") else "░" not in bar for _, share, bar in table)
    (total, start, words) = map(
        float, re.findall(r"^([+-][\d.]+) = without words ([+-][\d.]+), .* ([+-][\d.]+)$", out, re.M)[0]
    )
    assert total == pytest.approx(start + words, abs=0.01)
    assert sum(float(share) for _, share, _ in table) == pytest.approx(words, abs=0.01)
    assert float(re.findall(r"completeness error (.*)%", out)[0]) < 1
    assert "not in the vocabulary: zebra" in out
    assert "layer 1" in out


def test_another_label_and_a_row_of_the_test_split(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labels = json.loads((trained_run / "labels.json").read_text())
    for label in labels:
        assert f"log-probability of '{label}'" in shown(trained_run, capfd, "--row", "0", "--label", label)
    out = shown(trained_run, capfd, "--row", "17")
    row = json.loads((trained_run.parent / "test.jsonl").read_text().splitlines()[17])
    assert f"labelled: {row['label']}" in out
    assert "row 17 of the test split" in out
    assert row["text"].split()[0] in out


def test_from_python(trained_run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    explanation = lx.explain(trained_run, "bread onion")
    assert f"predicted: {explanation.prediction}" in shown(trained_run, capfd, "--text", "bread onion")
    assert lx.explain(trained_run, row=17).truth is not None


def test_what_makes_no_sense_is_refused(trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = ["--text", "bread"]
    for arguments, says in (
        ([], "give a text"),
        ([*text, "--row", "1"], "its own text"),
        (["--row", "18"], "0 to 17"),
        (["--row", "-1"], "0 to 17"),
        (["--row", "1", "--pair", "x"], "its own text"),
        ([*text, "--pair", "onion"], "single texts"),
        ([*text, "--label", "musik"], "did you mean 'music'"),
        (["--text", "  "], "empty"),
        ([*text, "--out", "explanation.txt"], ".html"),
        ([*text, "--out", str(tmp_path / "missing" / "x.html")], "missing"),
    ):
        assert main(["explain", str(trained_run), *arguments]) == 2
        captured = capfd.readouterr()
        assert says in captured.err and "Traceback" not in captured.err, captured.err


def test_without_captum_the_extra_is_named(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    assert main(["explain", str(trained_run), "--text", "bread"]) == 2
    assert "pip install 'lx[explain]'" in capfd.readouterr().err


class Tags(HTMLParser):
    """Counts elements, and keeps the text of scripts apart from all other."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)

    def handle_data(self, data: str) -> None:
        if self.found[-1:] not in (["script"], ["style"]):
            self.text += data


HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> \"&amp;' </title>"


def test_a_page_escapes_every_text() -> None:
    spans = [(i, i + 1) for i in range(len(HOSTILE))]
    shares = np.linspace(-1, 1, len(spans))
    layer = AttentionLayer(HOSTILE, np.full((1, 2, 2), 0.5, np.float32), HOSTILE)
    score = ScoreShares(HOSTILE, HOSTILE, 1.0, 0.5, {HOSTILE: [shares]}, {HOSTILE: 0.1}, [HOSTILE], [(HOSTILE, 1.0)])
    content = explanation_page(
        Explanation(
            HOSTILE, [ShownText(HOSTILE, spans, HOSTILE)], HOSTILE, [score], [HOSTILE] * 2, [layer], [HOSTILE], HOSTILE
        )
    )
    tags = Tags(content)
    assert tags.found.count("script") == 2 and "img" not in tags.found and tags.found.count("title") == 1
    assert tags.text.count(HOSTILE) >= 8
    data = content.partition('id="attention-data">')[2].partition("</script>")[0]
    assert json.loads(data)["tokens"] == [HOSTILE] * 2


def test_a_page_holds_everything(trained_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "why.html"
    shown(trained_run, capfd, "--text", "bread & onion", "--out", str(out))
    content = out.read_text(encoding="utf-8")
    assert "http://www.w3.org/2000/svg" in content
    assert not re.search(r"(?:src|url)\s*[=(]|href=\"[^#]", content)
    data = json.loads(content.partition('id="attention-data">')[2].partition("</script>")[0])
    assert data["tokens"] == ["[CLS]", "bread", "&", "onion", "[SEP]"]
    assert [layer["shape"] for layer in data["layers"]] == [[2, 1, 5]]
