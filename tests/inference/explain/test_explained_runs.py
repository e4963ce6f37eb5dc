"""Explanations of whole runs of every kind, and of what decides a label."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lx
from lx.cli.main import main
from lx.data.tokens.recipes import word
from lx.data.tokens.tokenizer import train as train_tokenizer
from lx.errors import LxError
from lx.inference.explain.explain import explain_row, explain_texts
from lx.inference.load import load_run
from lx.report.explanation import Explanation
from lx.tasks.explained import describe_prediction
from support.browser import browse, needs_browser
from support.corpus import examples, jsonl
from support.hostile import checkpoint
from support.tiny_run import tiny

pytest.importorskip("captum")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")]

KINDS: dict[str, list[str]] = {
    "expert beside": ["model/expert=linear", "model.expert.min_count=1"],
    "expert alone": ["model=linear", "model.expert.min_count=1"],
    "bag": ["model=bag", "model.dim=8"],
    "ensemble": ["model.num_members=2", "model.conv_width=3", "model/pooling=mean_max"],
    "ensemble of bags": ["model=bag", "model.dim=8", "model.num_members=2"],
    "pairs": ["data.text_pair=pair", "model/expert=linear", "model.expert.min_count=1"],
    "multilabel": ["task=multilabel", "task.thresholds=0.5"],
    "regression": ["task=regression"],
    **{f"position {name}": [f"model/position={name}"] for name in ("learned", "rotary", "alibi", "none")},
}


def write(folder: Path, rows: Callable[[int, int], list[dict[str, Any]]], train: int = 60) -> Path:
    for split, count, start in (("train", train, 0), ("validation", 24, 1000), ("test", 100, 2000)):
        (folder / f"{split}.jsonl").write_text(jsonl(rows(count, start)), encoding="utf-8")
    return folder


def train(folder: Path, *overrides: str) -> Path:
    (model,) = [setting for setting in overrides if setting.startswith("model=")] or [""]
    replaced = {"": (), "model=auto": ("model", "recipe"), "model=bag": ("model",)}
    without = replaced.get(model, ("model", "tokenizer", "optimizer.lr"))
    settings = [setting for setting in tiny(folder) if not setting.startswith(without)] if without else tiny(folder)
    lx.train(lx.compose([*settings, f"data.validation={folder / 'validation.jsonl'}", *overrides]))
    return folder / "run"


def labelled(kind: str) -> Callable[[int, int], list[dict[str, Any]]]:
    def rows(count: int, start: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = list(examples(count, start))
        for row in found:
            if kind == "multilabel":
                row["label"] = [row["label"], "long"] if len(row["text"].split()) > 4 else [row["label"]]
            if kind == "regression":
                row["label"] = len(row["text"].split()) / 2
        return found

    return rows


def assert_adds_up(explanation: Explanation) -> None:
    for score in explanation.scores:
        shares = sum(float(part.sum()) for texts in score.parts.values() for part in texts)
        total = score.start + shares + sum(score.rest.values())
        assert total == pytest.approx(score.value, abs=0.011 * (abs(score.value - score.start) + 0.01) + 1e-4)
        assert all(
            len(part) == len(explanation.texts[i].words)
            for texts in score.parts.values()
            for i, part in enumerate(texts)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = train(write(tmp_path, labelled(kind)), *KINDS[kind])
    loaded = load_run(run)
    for number in range(4):
        row = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[number])
        texts = [row["text"], row["pair"]] if kind == "pairs" else [row["text"]]
        explanation = explain_texts(loaded, texts)
        assert_adds_up(explanation)
        (says,) = lx.load(run).predict(texts[:1], texts[1:] or None)
        assert explanation.prediction == describe_prediction(says)
        assert_adds_up(explain_row(loaded, number))
    (score, *_) = explanation.scores
    expected = {"expert beside": ["encoder", "expert"], "pairs": ["encoder", "expert"], "expert alone": ["expert"]}
    assert list(score.parts) == expected.get(kind, ["encoder"])
    without = kind in ("expert alone", "bag", "ensemble of bags")
    assert (len(explanation.layers) == 0) == without
    assert main(["explain", str(run), "--row", "0", "--out", str(tmp_path / "why.html")]) == 0
    out = capfd.readouterr().out
    assert ("no attention" in out) == without and ("layer 1" in out) == (not without)
    assert ('id="attention-data"' in (tmp_path / "why.html").read_text()) == (not without)


PLANTED = {"zorp": "yes", "blick": "no"}
WORDS = [f"word{number}" for number in range(40)]


def planted(count: int, start: int) -> list[dict[str, Any]]:
    """Texts of random words, one of which decides the label."""
    draw = random.Random(start)
    rows = []
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(5, 11))
        decisive = draw.choice(sorted(PLANTED))
        words.insert(draw.randrange(len(words) + 1), decisive)
        rows.append({"text": " ".join(words), "label": PLANTED[decisive], "word": decisive})
    return rows


@pytest.mark.parametrize(
    ("overrides", "num_texts"),
    [(["trainer.max_epochs=10"], 100), (["recipe=auto", "model=auto", "trainer.max_epochs=4"], 10)],
)
def test_the_word_that_decides_the_label_has_the_largest_share(
    tmp_path: Path, overrides: list[str], num_texts: int
) -> None:
    write(tmp_path, planted, train=400)
    loaded = load_run(train(tmp_path, *overrides))
    rows = planted(num_texts, 2000)
    found = errors = 0
    for row in rows:
        (score,) = (explanation := explain_texts(loaded, [row["text"]])).scores
        ((_, strongest),) = score.strongest(1)
        start, end = explanation.texts[0].words[strongest]
        found += row["text"][start:end] == row["word"]
        errors += "TOO LARGE" in score.facts[0]
    assert found >= 0.95 * num_texts
    assert errors == 0


def test_a_pretrained_encoder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    rows = examples(60)
    own = train_tokenizer(word(vocab_size=99, lowercase=True, min_frequency=1), lambda: (row["text"] for row in rows))
    sizes = {"vocab_size": own.vocab_size, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = transformers.BertConfig(**sizes, intermediate_size=23, max_position_embeddings=19)
    transformers.BertModel(config).save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "tokenizer.json").write_text(own.to_json())
    write(tmp_path, labelled(""))
    run = train(tmp_path, "model=pretrained", f"model.path={tmp_path / 'bert'}")
    explanation = explain_texts(load_run(run), ["bread onion soup"])
    assert_adds_up(explanation)
    assert list(explanation.tokens) == ["[CLS]", "bread", "onion", "soup", "[SEP]"]
    for layer in explanation.layers:
        assert layer.weights.shape == (3, 5, 5) and layer.query is None
        np.testing.assert_allclose(layer.weights.sum(-1), 1, rtol=1e-5)
    assert len(explanation.layers) == 2


def test_weights_that_are_not_finite_are_refused(trained_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained_run, run)

    def spoil(content: dict[str, Any], _: Path) -> dict[str, Any]:
        return {
            **content,
            "weights": {name: torch.full_like(tensor, np.nan) for name, tensor in content["weights"].items()},
        }

    checkpoint(spoil)(run)
    with pytest.raises(LxError, match="not finite"):
        explain_texts(load_run(run), ["bread"])


@needs_browser
def test_in_a_browser_the_attention_is_drawn_and_a_text_runs_nothing(trained_run: Path, tmp_path: Path) -> None:
    text = "bread <script>document.title = 'run'</script> <img src=x onerror=\"document.title='run'\"> onion"
    assert main(["explain", str(trained_run), "--text", text, "--out", str(tmp_path / "why.html")]) == 0
    dom = browse(tmp_path / "why.html", tmp_path)
    assert "<title>Why " in dom
    assert dom.count('<rect class="cell"') > 3 and dom.count('aria-pressed="') == 2
    assert "<img" not in dom and "layer 1, head 1" in dom
