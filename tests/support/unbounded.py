"""Run directories from a stranger that would take time or memory without end, or end in a traceback."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import yaml

from lx.data.tokens.table import token_schema
from support.hostile import BERT, Spoil, checkpoint, config, edit_config, edit_json, pretrained, sizes, target, write

MANY = 20_000


def append(text: str) -> Spoil:
    """Add lines to config.yaml."""

    def spoil(run: Path) -> None:
        with (run / "config.yaml").open("a") as file:
            file.write(text)

    return spoil


def bomb() -> str:
    """A few hundred bytes that expand to 9^10 entries."""
    levels = [f"b{i}: &b{i} [{','.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 11)]
    return "\n".join(["b0: &b0 [x]", *levels, ""])


def sparse(name: str) -> Spoil:
    """A file of 8 GB that takes no room on the disk."""
    return lambda run: os.truncate(run / name, 8 << 30)


def replace(name: str, make: Callable[[Path], Any]) -> Spoil:
    """Put something that is no regular file in the place of a file."""

    def spoil(run: Path) -> None:
        (run / name).unlink()
        make(run / name)

    return spoil


def tokenizer(**parts: Any) -> Spoil:
    """Replace parts of tokenizer.json."""
    return lambda run: edit_json(run, "tokenizer.json", **parts)


def split(pattern: str) -> Spoil:
    node = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return tokenizer(pre_tokenizer=node)


def normalizers(*nodes: dict[str, Any]) -> Spoil:
    return tokenizer(normalizer={"type": "Sequence", "normalizers": list(nodes)})


def replacement(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def template(*parts: dict[str, Any]) -> Spoil:
    node = {"type": "TemplateProcessing", "single": list(parts), "pair": list(parts), "special_tokens": {}}
    return tokenizer(post_processor=node)


SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}


def compressed_table(kind: str) -> Spoil:
    """A test.arrow of a million tokens in a few thousand bytes."""

    def spoil(run: Path) -> None:
        schema, count = token_schema(pa.int32()), 1_000_000
        columns = [pa.array([[5] * count], pa.list_(pa.int32())), pa.array([0], pa.int32())]
        batch = pa.record_batch([*columns, pa.array([False]), pa.array([0], pa.int32())], schema=schema)
        options = pa.ipc.IpcWriteOptions(compression=kind)
        with pa.OSFile(str(run / "test.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as out:
            out.write_batch(batch)

    return spoil


def compressed_checkpoint(run: Path) -> None:
    """The same archive, deflated, with an entry of 300 MB of zeros."""
    path = run / "checkpoints" / "best.ckpt"
    content = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("archive/data/999", bytes(1 << 26))


def legacy_checkpoint(run: Path) -> None:
    path = run / "checkpoints" / "best.ckpt"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)


def expanded_weights(run: Path) -> None:
    """Weights of 1 TB that are all one number in the file, for a model of that width."""
    edit_config(run, "model.dim", 100_000)

    def widen(content: dict[str, Any], _: Path) -> dict[str, Any]:
        wide = {
            name: torch.zeros(1).expand([100_000 if n == 8 else 400_000 if n == 32 else n for n in weight.shape])
            for name, weight in content["weights"].items()
        }
        return {**content, "weights": wide}

    checkpoint(widen)(run)


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


def huge_counts(run: Path) -> None:
    edit_config(run, "task.class_weights", "balanced")
    edit_json(run, "model.json", label_set={"class_counts": [10**4000, 1, 1]})


def without_keys(run: Path) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({"model": config["model"], "task": config["task"]}))


ALBERT = {"model_type": "albert", "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 50}

DISTILBERT = {"model_type": "distilbert", "sinusoidal_pos_embds": True, "max_position_embeddings": 10**6, "dim": 8}

# What was done to the directory; what is said of it.
UNBOUNDED: dict[str, tuple[Spoil, str]] = {
    "aliases that expand without end": (append(bomb()), "not plain data"),
    "one alias": (append("x: &x [1]\ny: *x\n"), "not plain data"),
    "20,000 lists in one another": (append(f"x: {'[' * MANY}{']' * MANY}\n"), "plain data"),
    "500 mappings in one another": (append("".join(f"{' ' * i}x:\n" for i in range(500))), "not plain data"),
    "a tag of YAML's own": (append("x: !!binary aGk=\n"), "not plain data"),
    "a set": (append("x: !!set {a, b}\n"), "not plain data"),
    "a configuration of 2 MB": (append(f"x: {'y' * (1 << 21)}\n"), "bytes"),
    "a number of 5,000 digits": (append(f"x: {'9' * 5000}\n"), "config.yaml"),
    "a day that is none": (append("x: 2001-99-99\n"), "config.yaml"),
    "a list as a key": (append("? [a]\n: 1\n"), "config.yaml"),
    "a NUL in the configuration": (append("x: \x00\n"), "config.yaml"),
    "a directory in place of config.yaml": (replace("config.yaml", Path.mkdir), "not a regular file"),
    "a pipe in place of model.json": (replace("model.json", os.mkfifo), "not a regular file"),
    "settings without data and hardware": (without_keys, "data.max_length"),
    "a target of 100,000 letters": (target("x" * 100_000), "which is none"),
    "a target with control sequences": (target("\x1b[2Jos.system"), r"\x1b[2Jos.system"),
    "positional arguments that are a mapping": (config("model._args_", {"a": 1}), "cannot be built"),
    "a partial that is text": (config("model.norm._partial_", "maybe"), "fit"),
    "20,000 lists as labels": (write("labels.json", "[" * MANY + "]" * MANY), "labels.json"),
    "300 lists as sizes": (write("model.json", "[" * 300 + "]" * 300), "model.json"),
    "4 million labels": (write("labels.json", f"[{'[],' * 4_000_000}0]"), "items"),
    "labels of 8 GB": (sparse("labels.json"), "bytes"),
    "a label that is half a character": (write("labels.json", r'["\ud800", "b", "c"]'), "surrogate"),
    "counts of 4,000 digits": (huge_counts, "fit"),
    "a size of 5,000 digits": (write("model.json", '{"vocab_size": ' + "9" * 5000 + "}"), "model.json"),
    "an endless size": (write("model.json", '{"vocab_size": Infinity}'), "vocab_size"),
    "a size that is a long list": (sizes(vocab_size=[0] * 100_000), "vocab_size"),
    "a pattern of nested loops": (split("(a+)+$"), "unbounded time"),
    "a pattern of loops over a choice": (split("(?:a|a|b){2,}c"), "unbounded time"),
    "a pattern of many loops": (split("a*a*a*a*a*$"), "unbounded time"),
    "a pattern that refers back": (split(r"(a*)\1b"), "unbounded time"),
    "a pattern in a normalizer": (normalizers(replacement({"Regex": "(x+)*y"}, "")), "unbounded time"),
    "a pattern that is none": (split("["), "tokenizer.json"),
    "40 normalizers that double": (normalizers(*[replacement({"String": "a"}, "aa")] * 40), "makes too much"),
    "a long prefix for every text": (normalizers({"type": "Prepend", "prepend": "x" * 10**6}), "makes too much"),
    "a text that is repeated": (template(*[SEQUENCE] * 1000), "makes too much"),
    "a tokenizer of 8 GB": (sparse("tokenizer.json"), "bytes"),
    "20,000 lists as a tokenizer": (write("tokenizer.json", "[" * MANY + "]" * MANY), "tokenizer.json"),
    "a compressed checkpoint": (compressed_checkpoint, "compressed"),
    "a checkpoint of torch's old format": (legacy_checkpoint, "best.ckpt"),
    "weights of one number": (expanded_weights, "larger than their file"),
    "choices without end": (checkpoint(lambda content, _: content | {"choices": {"temperature": deep(200)}}), "fit"),
    "a billion layers": (pretrained(**BERT | {"num_hidden_layers": 10**9}), "beyond"),
    "a million layers": (pretrained(**BERT | {"num_hidden_layers": 10**6}), "more layers"),
    "a million layers in a group": (pretrained(**ALBERT, inner_group_num=10**6), "more layers"),
    "a billion positions": (pretrained(**BERT | {"max_position_embeddings": 10**9}), "beyond"),
    "a million computed positions": (pretrained(**DISTILBERT), "computed"),
}

UNBOUNDED_TO_EVAL: dict[str, tuple[Spoil, str]] = {
    "tokens compressed by zstd": (compressed_table("zstd"), "test.arrow"),
    "tokens compressed by lz4": (compressed_table("lz4"), "test.arrow"),
    "test.arrow of other columns": (write("test.arrow", b"ARROW1\0\0" + b"\xff" * 64), "test.arrow"),
}
