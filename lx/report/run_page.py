"""The report of one run: what it was, how it learned, what it gets wrong."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from lx.errors import LxError
from lx.report.class_tables import class_blocks
from lx.report.curves import curves
from lx.report.mistakes import label_blocks, mistakes_blocks
from lx.report.outcomes import error_figure, length_figure, number_figures, reliability_figure
from lx.report.page import Block, Code, Facts, Figures, Page, Section, Text
from lx.report.record import RunRecord
from lx.report.tables import duration

_TILES = 6
DAMAGE = (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError)
"""What reading a stranger's file can raise where its content is not what lx writes."""
_WITHOUT_PREDICTIONS = (
    "There is no predictions.arrow: the run has not ended, or its lx was older. Errors against length and numbers "
    "against predictions are missing; lx eval computes metrics, but no predictions.arrow."
)


def run_page(record: RunRecord) -> Page:
    """Build the report of a run.

    Raises:
        LxError: its files are damaged.
    """
    try:
        return Page(record.name, _lead(record), _sections(record), _tiles(record))
    except DAMAGE as error:
        raise LxError(f"{record.run.path} is damaged: {type(error).__name__}: {error}") from error


def _lead(record: RunRecord) -> str:
    result = record.result
    if result is None:
        return "This run has not ended: what it has recorded so far."
    text = f"{result.status}, {result.steps:,} steps in {duration(float(result.seconds))}"
    return f"{text}: {result.error}" if result.error else text


def _tiles(record: RunRecord) -> dict[str, str]:
    metrics = record.metrics
    test = {name: value for name, value in metrics.items() if name.startswith("test/")}
    shown = [*(test or metrics).items()][:_TILES]
    tiles = {name.replace("/", " ").replace("_", " "): f"{value:.4f}" for name, value in shown}
    if record.result is not None and record.result.parameters:
        tiles["parameters"] = f"{record.result.parameters:,}"
    return tiles


def _sections(record: RunRecord) -> list[Section]:
    details = record.result.details if record.result is not None else {}
    return [
        Section("Learning curves", _curves(record)),
        Section("Classes", class_blocks(details)),
        Section("Predictions", _predictions(record, details)),
        Section("Mistakes", mistakes_blocks(record)),
        Section("Labels that may be wrong", label_blocks(record)),
        Section("What it was", _facts(record)),
        Section("How to repeat it", _repetition(record)),
    ]


def _curves(record: RunRecord) -> list[Block]:
    if not record.history:
        return [Text("There are none: the run took no steps, or was trained without the logger csv (logger=csv).")]
    return [Figures(curves({record.name: record.history}))]


def _predictions(record: RunRecord, details: Mapping[str, Any]) -> list[Block]:
    figures = []
    if bins := details.get("reliability"):
        figures.append(reliability_figure(bins))
    tokens, predictions = record.test, record.predictions
    if tokens is not None and len(tokens):
        figures.append(length_figure(tokens.lengths, int(record.config["data"]["max_length"]), tokens.num_truncated))
    test = predictions.splits.get("test") if predictions is not None else None
    if predictions is not None and test is not None:
        if tokens is not None and test.rows[-1] < len(tokens):
            figures.append(error_figure(tokens.lengths[test.rows], test, predictions.metric))
        if test.labels.dtype == np.float64:
            figures += number_figures(test.labels, test.scores[:, 0].astype(np.float64))
    missing = [] if predictions is not None else [Text(_WITHOUT_PREDICTIONS)]
    return [*([Figures(figures)] if figures else []), *missing]


def _facts(record: RunRecord) -> list[Block]:
    config, environment, sizes = record.config, record.environment, record.sizes
    data, trainer, hardware = (config.get(name) or {} for name in ("data", "trainer", "hardware"))
    source = next((str(data[key]) for key in ("train", "path") if data.get(key)), str(data["source"]["_target_"]))
    packages = environment.get("packages") or {}
    pairs = {
        "name": config.get("name"),
        "data": source,
        "test data": data.get("test"),
        "training texts": f"{_num_examples(sizes):,}" if _num_examples(sizes) else None,
        "task": _short_target(config.get("task")),
        "model": _short_target(config.get("model")),
        "parameters": f"{record.result.parameters:,}" if record.result and record.result.parameters else None,
        "vocabulary": f"{sizes['vocab_size']:,} pieces" if sizes else None,
        "batch size": data.get("batch_size"),
        "longest text": f"{data.get('max_length')} tokens",
        "epochs": trainer.get("max_epochs"),
        "optimizer": f"{_short_target(config.get('optimizer'))}, lr {(config.get('optimizer') or {}).get('lr')}",
        "seed": config.get("seed"),
        "hardware": ", ".join(f"{k} {hardware[k]}" for k in ("accelerator", "devices", "precision") if hardware.get(k)),
        "git revision": environment.get("revision"),
        "machine": environment.get("platform"),
        "Python": environment.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
    }
    shown = {name: str(value) for name, value in pairs.items() if value not in (None, "", {})}
    blocks: list[Block] = [Facts("This run", shown)]
    if reasons := record.run.read_reasons():
        blocks.append(Facts("Settings that the data has chosen, and why", reasons))
    if record.metrics:
        blocks.append(Facts("All metrics", {name: f"{value:.6g}" for name, value in record.metrics.items()}))
    return blocks


def _num_examples(sizes: Mapping[str, Any]) -> int:
    label_set = sizes.get("label_set") or {}
    return int(label_set.get("num_examples") or sum(label_set.get("class_counts") or sizes.get("class_counts") or ()))


def _short_target(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2] if isinstance(node, dict) else ""


def _repetition(record: RunRecord) -> list[Block]:
    environment = record.environment
    overrides = [str(override) for override in environment.get("overrides") or ()]
    blocks: list[Block] = []
    if overrides or environment:
        folder = ["--config-dir", str(environment["config_dir"])] if environment.get("config_dir") else []
        kept = [text for text in overrides if not text.startswith(("run_dir=", "resume="))]
        blocks.append(Code(shlex.join(["lx", "train", *folder, *kept])))
    config = yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True)
    return [*blocks, Code(config, "The whole configuration")]
