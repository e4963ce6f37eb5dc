"""Train every variant on every data set with several seeds, and print a table of means and standard deviations.

    python tests/benchmarks/recipes.py OUT --data DIR/trec DIR/sst2 data=docstrings --variant "" --variant recipe=plain

A data set is a folder with train.jsonl, test.jsonl and, if there is one, validation.jsonl; where test.jsonl is missing,
validation.jsonl is the test split and validation is taken from train. Or it is an override. A variant is the overrides
that make it; "" is the defaults. Each pair of data set and variant is a sweep below OUT: give the same command again
after an interruption, or with more seeds, sets or variants, and what is missing runs. Validation chooses; test is only
shown.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from contextlib import redirect_stdout
from pathlib import Path

from lx.sweep.commands import run_sweep
from lx.sweep.trials import Mean, Outcome
from lx.system.cache import digest


def overrides_of(data: str) -> list[str]:
    """Return the overrides that name the splits of a data set."""
    if "=" in data:
        return [data]
    folder = Path(data).resolve()
    splits = {name: folder / f"{name}.jsonl" for name in ("train", "validation", "test")}
    if not splits["test"].exists():
        splits["test"] = splits.pop("validation")
    return ["data=files", *(f"data.{name}={path}" for name, path in splits.items() if path.exists())]


def outcomes(out: Path, data: str, variant: str, seeds: int) -> list[Outcome]:
    """Run, or go on with, the sweep of one variant on one data set; return how each seed ended."""
    name = f"{re.sub(r'[^0-9A-Za-z.,+-]+', '_', variant)[:60]}-{digest(variant)[:8]}"
    folder = out / re.sub(r"[^0-9A-Za-z.,+-]+", "_", Path(data).name) / name
    settings = [f"sweep.seeds={seeds}", f"sweep.dir={folder}", "logger=csv"]
    with redirect_stdout(sys.stderr):
        sweep = run_sweep([*overrides_of(data), *shlex.split(variant), *settings])
    if sweep.exit_code:
        sys.exit(f"{folder} ended with exit code {sweep.exit_code}")
    return [replicate.outcome() for replicate in sweep.rows[0].trial.replicates()]


def main() -> None:
    """Print a line of a Markdown table after each sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the sweeps")
    parser.add_argument("--data", nargs="+", required=True, help="folders of data sets, or overrides")
    parser.add_argument("--variant", action="append", help="overrides, quoted as one argument; may be repeated")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--metric", nargs="+", default=["val/accuracy", "test/accuracy", "seconds"])
    arguments = parser.parse_args()
    print("| data | variant |", " | ".join(arguments.metric), "|")
    print("|---|---|" + "---|" * len(arguments.metric))
    for data in arguments.data:
        for variant in arguments.variant or [""]:
            ended = outcomes(arguments.out, data, variant, arguments.seeds)
            means = [
                Mean.of([value for outcome in ended if (value := outcome.value(name)) is not None])
                for name in arguments.metric
            ]
            print(f"| {Path(data).name} | {variant or 'defaults'} |", " | ".join(map(str, means)), "|", flush=True)


if __name__ == "__main__":
    main()
