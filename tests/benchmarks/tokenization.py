"""Encoding the training texts into their Arrow file, against one bare call of the tokenizers library.

    python tests/benchmarks/tokenization.py data=files data.train=train.jsonl --rounds 5

Both encode the same texts with the same trained tokenizer, in turn; each begins every round with a tokenizer that has
just been read and remembers no word. lx reads the texts from the corpus and writes their token ids to disk; the bare
call has the texts in a list, and ends with the library's own objects in memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tokenizers

import lx
from lx.data.datamodule import TextDataModule
from lx.data.sources.build import build_source
from lx.data.tokens.table import TokenTable, write_tokens
from lx.data.tokens.tokenizer import Tokenizer
from lx.distributed.rank_info import RankInfo
from lx.system.hardware import resolve
from lx.training.builders import build_data


def fresh(saved: str) -> tokenizers.Tokenizer:
    """A tokenizer that has encoded nothing yet."""
    return tokenizers.Tokenizer.from_str(saved)


def ours(data: TextDataModule, saved: str, path: Path) -> float:
    """Seconds in which lx makes the Arrow file, as where it prepares data."""
    data.tokenizer = Tokenizer(fresh(saved))
    begun = time.perf_counter()
    write_tokens(path, data._encoded("train", data.corpus.splits["train"]))
    return time.perf_counter() - begun


def bare(data: TextDataModule, saved: str, inputs: list[Any]) -> tuple[float, int]:
    """Seconds of the library's call, and how many tokens it found."""
    backend = fresh(saved)
    backend.encode_special_tokens = True
    backend.no_padding()
    backend.enable_truncation(data.options.max_length)
    encode = getattr(backend, "encode_batch_fast", backend.encode_batch)
    begun = time.perf_counter()
    encodings = encode(inputs)
    seconds = time.perf_counter() - begun
    return seconds, sum(len(encoding) for encoding in encodings)


def inputs_of(data: TextDataModule) -> list[Any]:
    """The training texts, or pairs of texts, as the library wants them."""
    inputs: list[Any] = []
    for texts, pairs in data.corpus.splits["train"].texts():
        inputs += texts if pairs is None else zip(texts, pairs, strict=True)
    return inputs


def main() -> None:
    """A line for each round, then the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("overrides", nargs="*")
    args = parser.parse_intermixed_args()
    cfg = lx.compose(["recipe=plain", *args.overrides])
    data = build_data(cfg, resolve("cpu"), RankInfo(), build_source(cfg.data))
    data.prepare_data()
    saved, inputs = data.tokenizer.to_json(), inputs_of(data)
    fresh(saved).encode_batch(inputs[:1000])  # starts the library's threads
    lengths: list[float] = []
    calls: list[float] = []
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "train.arrow"
        for number in range(1, args.rounds + 1):
            lengths.append(ours(data, saved, path))
            seconds, count = bare(data, saved, inputs)
            calls.append(seconds)
            wanted = int(TokenTable(path).lengths.sum())
            assert count == wanted, f"{count} tokens here, {wanted} there"
            print(f"round {number}: lx {lengths[-1]:.3f} s  bare call {seconds:.3f} s", flush=True)
            path.unlink()
    ratios = [our / their for our, their in zip(lengths, calls, strict=True)]
    print(f"{len(inputs):,} texts, {count:,} tokens")
    print(f"median: lx {statistics.median(lengths):.3f} s  bare call {statistics.median(calls):.3f} s")
    print(f"lx over the bare call: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
