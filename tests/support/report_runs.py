"""Runs on made-up numbers, for reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from lx.run.directory import RunDirectory
from lx.run.predictions import predictions_schema, write_predictions
from lx.system.files import atomic_write_json

SCRIPT = "<script>alert(1)</script>"
CONFIG = {
    "name": "x",
    "seed": 0,
    "data": {"train": "train.csv", "max_length": 16, "source": {"_target_": "lx.data.sources.files.FileSource"}},
    "task": {"_target_": "lx.tasks.classification.Classification"},
}


def write_run(path: Path, names: list[str], seed: int = 0, with_predictions: bool = True) -> RunDirectory:
    """A finished run on made-up numbers."""
    run = RunDirectory(path)
    run.create()
    number = len(names)
    draw = np.random.default_rng(seed)
    run.write_config({**CONFIG, "seed": seed})
    atomic_write_json(run.labels, names)
    sizes = {"vocab_size": 9, "num_outputs": number, "num_token_types": 1, "label_set": {"class_counts": [5] * number}}
    atomic_write_json(run.model, sizes)
    lines = ["step,epoch,train/loss,lr,val/loss,val/f1_macro", "1,1,0.9,0.1,,", "2,1,nan,0.1,0.8,0.5", "3,1,0.8,0.1,,"]
    run.metrics.write_text("\n".join([*lines, "4,1,0.7"]))
    confusion = draw.integers(0, 9, (number, number)).tolist()
    bins = {"count": [0, 4, 6], "confidence": [0.0, 0.5, 0.9], "accuracy": [0.0, 0.25, 1.0]}
    scores = [{"name": name, "support": 5, "precision": 0.5, "recall": 0.5, "f1": 0.5} for name in names]
    details = {"per_class": scores, "confusion_matrix": confusion, "reliability": {"scaled": bins, "unscaled": bins}}
    details["expert"] = {"held_out": 1234}
    metrics = {"test/accuracy": 0.5, "val/accuracy": 0.25}
    atomic_write_json(run.result, {"status": "finished", "steps": 3, "seconds": 1.0, "metrics": metrics, **details})
    if with_predictions:
        mistakes = [{"row": 1, "text": f"{SCRIPT}\x00", "label": names[0], "prediction": names[1], "probability": 0.9}]
        atomic_write_json(run.mistakes, {"validation": mistakes, "test": mistakes, "train": mistakes})
        probabilities = draw.dirichlet([1.0] * number, 20).astype(np.float32)
        columns = [
            pa.array(["validation"] * 20),
            pa.array(range(20)),
            pa.array(np.arange(20, dtype=np.int32) % number),
            pa.FixedSizeListArray.from_arrays(pa.array(probabilities.reshape(-1)), number),
            pa.array(np.ones(20, np.float32)),
            pa.array(np.ones(20)),
            pa.array(np.ones(20)),
        ]
        schema = predictions_schema(pa.int32(), number, "accuracy", {})
        write_predictions(run, schema, [pa.record_batch(columns, schema=schema)])
    return run
