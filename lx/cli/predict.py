"""``lx predict``: label texts."""

from __future__ import annotations

from pathlib import Path

from lx.cli.arguments import Parser
from lx.errors import LxError
from lx.system.gc import freeze_after_imports


def run(arguments: list[str]) -> int:
    """Label texts with a run's best weights and return the exit code."""
    args = _parser().parse_args(arguments)
    if args.text and args.file:
        raise LxError("give texts with --text or a file, not both")
    from lx.launch.local import run_on_ranks

    hardware = [f"hardware.accelerator={args.accelerator}", f"hardware.devices={args.devices}"]
    if (code := run_on_ranks(args.run, hardware if args.devices != "1" else [], ["predict", *arguments])) is not None:
        return code
    with freeze_after_imports():
        from lx.inference.classifier import run_predict
    run_predict(args)
    return 0


def _parser() -> Parser:
    parser = Parser("predict", "Label texts, in the order of the input.")
    parser.add_argument("run", metavar="RUN", help="the run directory")
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="CSV, TSV, JSON Lines, Parquet or .txt; - (default): lines of stdin"
    )
    parser.add_argument("--text", nargs="+", metavar="TEXT", help="texts to label, instead of a file")
    parser.add_argument("--pair", nargs="+", metavar="TEXT", help="the second text of each --text")
    parser.add_argument("--column", metavar="NAME", help="the column of texts (default: as in training, else text)")
    parser.add_argument("--pair-column", metavar="NAME", help="the column of second texts (default: as in training)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write here (.jsonl or .csv) instead of to stdout")
    parser.add_argument("--format", choices=("jsonl", "csv"), help="default: by the name of --out, else jsonl")
    parser.add_argument("--probabilities", action="store_true", help="also write the probability of every class")
    parser.add_argument("--accelerator", default="auto", metavar="NAME", help="auto (default), cpu, gpu or mps")
    parser.add_argument("--devices", default="1", metavar="N", help="how many devices share the texts; auto: all")
    parser.add_argument("--precision", metavar="NAME", help="auto, 32-true, bf16-mixed, ... (default: as in training)")
    parser.add_trust()
    return parser
