"""``lx eval``: compute a run's metrics again."""

from __future__ import annotations

import sys
from pathlib import Path

from lx.cli.arguments import Parser, check_ending, check_out, runs_of
from lx.config.grammar import as_grammar
from lx.distributed.rank_info import RankInfo
from lx.system.gc import freeze_after_imports


def run(arguments: list[str]) -> int:
    """Evaluate a run, print its metrics, write them to a file and return the exit code."""
    args = parser().parse_intermixed_args(arguments)
    as_grammar(args.overrides)  # refuses at once what cannot be read
    check_out(args.out, args.run, args.overrides)
    check_ending(args.out, ".json")
    from lx.launch.local import run_on_ranks

    hardware = [override for override in args.overrides if override.startswith(("hardware=", "hardware."))]
    if (code := run_on_ranks(args.run, hardware, ["eval", *arguments])) is not None:
        return code
    runs = runs_of(args)
    with freeze_after_imports():
        from lx.inference.evaluate import evaluate, evaluate_average, file_name, show
        from lx.inference.load import load_run
    from lx.system.files import atomic_write, output_file, to_json
    from lx.system.output import say

    members = [load_run(run, args.trust) for run in runs]
    if len(members) == 1:
        result = evaluate(members[0], args.overrides)
    else:
        result = evaluate_average(members, Path(args.run), args.overrides)
    if RankInfo.from_environment().is_first:
        out = args.out or Path(args.run) / file_name(result)
        with output_file(out) if args.out else atomic_write(out) as path:
            path.write_text(to_json(result.to_json()), encoding="utf-8")
        show(result, members[0].task)
        say(f"written to {out}", sys.stderr)
    return 0


def parser() -> Parser:
    """Return the parser of the arguments."""
    parser = Parser("eval", "Evaluate a run's best weights on its own test split, or on other data.")
    parser.add_run()
    parser.add_overrides("data.test=FILE and other data settings; hardware=cpu")
    text = "where to write the metrics (default: RUN/eval.json; of other data RUN/eval-NAME.json)"
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)
    parser.add_trust()
    return parser
