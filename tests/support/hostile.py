"""Run directories from a stranger: each function returns what spoils a copy of a good run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml

from lx.data.tokens.table import token_schema
from lx.run.checkpoint import write_checkpoint

Spoil = Callable[[Path], None]


class Payload:
    """What a malicious pickle looks like."""

    def __init__(self, touched: Path) -> None:
        self.touched = touched

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.touched}",)


def edit_config(run: Path, key: str, value: Any) -> None:
    """Set a dotted key of config.yaml."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    node = config
    *parents, last = key.split(".")
    for parent in parents:
        node = node.setdefault(parent, {})
    node[last] = value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def edit_json(run: Path, name: str, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads((run / name).read_text()) | values
    (run / name).write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def target(name: str, *args: Any, at: str = "model") -> Spoil:
    """Replace a node by a call."""

    def spoil(run: Path) -> None:
        edit_config(run, at, {"_target_": name, "_args_": list(args)})

    return spoil


def config(key: str, value: Any) -> Spoil:
    return lambda run: edit_config(run, key, value)


def sizes(**values: Any) -> Spoil:
    return lambda run: edit_json(run, "model.json", **values)


def write(name: str, content: str | bytes) -> Spoil:
    return lambda run: (run / name).write_bytes(content.encode() if isinstance(content, str) else content) and None


def link(name: str) -> Spoil:
    """Move a file or folder out of the run and leave a link in its place."""

    def spoil(run: Path) -> None:
        shutil.move(run / name, run.parent / "outside")
        (run / name).symlink_to(run.parent / "outside")

    return spoil


def link_to_secret(name: str) -> Spoil:
    def spoil(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to(run.parent / "secret.txt")

    return spoil


def checkpoint(change: Callable[[dict[str, Any], Path], Any]) -> Spoil:
    def spoil(run: Path) -> None:
        path = run / "checkpoints" / "best.ckpt"
        write_checkpoint(path, change(torch.load(path, weights_only=True), run.parent / "touched"))

    return spoil


def raw_pickle(run: Path) -> None:
    (run / "checkpoints" / "best.ckpt").write_bytes(pickle.dumps(Payload(run.parent / "touched")))


def truncate(name: str) -> Spoil:
    def spoil(run: Path) -> None:
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: len(content) // 2])

    return spoil


def change_a_byte(name: str) -> Spoil:
    """Change the last byte of the last weight: the archive still reads."""

    def spoil(run: Path) -> None:
        content = bytearray((run / name).read_bytes())
        content[content.rindex(b"PK\x03\x04") - 1] ^= 1
        (run / name).write_bytes(content)

    return spoil


def token_table(token_ids: Sequence[int] = (2, 5, 3), label: int | None = 0) -> Spoil:
    """One example instead of the test split."""

    def spoil(run: Path) -> None:
        lists = pa.array([token_ids], pa.list_(pa.int32()))
        columns = [lists, pa.array([0], pa.int32()), pa.array([False]), pa.array([label], pa.int32())]
        with pa.OSFile(str(run / "test.arrow"), "wb") as sink, pa.ipc.new_file(sink, token_schema(pa.int32())) as out:
            out.write_batch(pa.record_batch(columns, schema=token_schema(pa.int32())))

    return spoil


def token_offsets(start: int, stop: int) -> Spoil:
    """One example of 777 tokens, whose place in the file is then said to be another."""

    def spoil(run: Path) -> None:
        token_table([5] * 777)(run)
        content = (run / "test.arrow").read_bytes()
        place = content.rindex(struct.pack("<ii", 0, 777))
        (run / "test.arrow").write_bytes(content[:place] + struct.pack("<ii", start, stop) + content[place + 8 :])

    return spoil


def pretrained(**architecture: Any) -> Spoil:
    """A run that claims to be built on an encoder of the Hub."""

    def spoil(run: Path) -> None:
        node = {"_target_": "lx.nn.pretrained.PretrainedClassifier", "_convert_": "all", "path": "evil/model"}
        pooling = {"_target_": "lx.nn.pooling.MeanPooling", "_partial_": True}
        edit_config(run, "model", {**node, "pooling": pooling, "dropout": 0.1, "config": None})
        edit_json(run, "model.json", architecture=architecture or None)

    return spoil


BERT = {
    "model_type": "bert",
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 50,
}
