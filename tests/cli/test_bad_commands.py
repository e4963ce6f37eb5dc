"""Bad commands and places get one clear message and exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bad_input import (
    TRAIN,
    Case,
    assert_clear,
    assert_refused,
    bad_inputs,
    given,
    lay_out,
    of_run,
    setting,
    snapshot,
)
from support.commands import lx

# Lightning's own use of torch's trees
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def looks_like_a_run(path: Path) -> None:
    (path / "old" / "checkpoints").mkdir(parents=True)
    (path / "old" / "config.yaml").write_text("seed: 0\n")
    (path / "old" / "result.json").write_text('{"status": "finished"}\n')


def looks_like_a_sweep(path: Path) -> None:
    for seed in (0, 1):
        (path / "sweep" / "0" / f"seed-{seed}").mkdir(parents=True)
        (path / "sweep" / "0" / f"seed-{seed}" / "config.yaml").write_text("seed: 0\n")
    (path / "sweep" / "0" / "trial.json").write_text("{}")
    (path / "sweep" / "sweep.json").write_text(
        '{"overrides": ["sweep=tpe", "sweep.n_trials=4"], "config_dir": null, "cwd": ".", "threads": 1, '
        '"flat_seed": null, "metric": "val/accuracy", "mode": "max"}'
    )


def file_in_the_way(path: Path) -> None:
    (path / "blocked").write_text("mine\n")


CASES = [
    # where the run goes
    Case(
        "run directory in use",
        f"train data=files {TRAIN} run_dir=old",
        ("old", "already holds a run", "run_dir"),
        prepare=looks_like_a_run,
    ),
    Case(
        "file in the way",
        f"train data=files {TRAIN} run_dir=blocked/run",
        ("blocked/run", "cannot write"),
        prepare=file_in_the_way,
    ),
    Case(
        "path that no one can write", f"train data=files {TRAIN} run_dir=/proc/x/run", ("/proc/x/run", "cannot write")
    ),
    Case(
        "cache in the way",
        f"train data=files {TRAIN} run_dir=run data.cache_dir=blocked/cache",
        ("blocked/cache", "data.cache_dir"),
        prepare=file_in_the_way,
    ),
    Case("no such config directory", "train --config-dir nowhere", ("--config-dir nowhere", "no such directory")),
    # other commands
    Case("unknown command", "trian", ("'trian'", "did you mean 'train'"), small=False),
    Case(
        "check finds it too", f"check data=files {TRAIN} objective.metric=f1", ("objective.metric=f1", "val/f1_macro")
    ),
    Case("check of a run directory in use", f"check {TRAIN} run_dir=old", ("old", "already"), prepare=looks_like_a_run),
    Case(
        "check of a file in the way", f"check {TRAIN} run_dir=blocked/run", ("cannot write",), prepare=file_in_the_way
    ),
    Case("check of a path that no one can write", f"check {TRAIN} run_dir=/proc/x/run", ("cannot write",)),
    Case(
        "check of a logger's unknown setting",
        f"check {TRAIN} +logger.x._target_=lx.tracking.csv.csv_logger +logger.x._partial_=true +logger.x.foo=1",
        ("logger.x cannot be built", "unexpected keyword argument 'foo'"),
    ),
    Case(
        "check of two machines",
        f"check {TRAIN} hardware.num_nodes=2 launch=process",
        ("hardware.num_nodes=2", "hardware.rdzv_endpoint=HOST:PORT"),
    ),
    Case("check of a callback", f"check {TRAIN} +callbacks.x._target_=nowhere.X", ("callbacks.x cannot be built",)),
    Case(
        "check of a tracker without credentials",
        f"check {TRAIN} tokenizer=word model=tiny hardware=cpu logger=wandb logger.wandb.mode=online",
        ("logger.wandb.mode", "WANDB_API_KEY"),
        small=False,
    ),
    Case("a word that is no setting", "train hello", ("'hello' is no setting", "key=value")),
    Case("a file alone", "train good.jsonl", ("to read that file: data.train=good.jsonl, or data.test=",)),
    Case("an empty value", f"train {TRAIN} data.test=", ("data.test is empty",)),
    Case("several values", f"train {TRAIN} seed=0,1", ("lx train -m seed=0,1",)),
    of_run("eval of an empty value", "eval nowhere hardware=", "hardware is empty"),
    of_run("eval of nothing", "eval", "RUN", "lx eval --help"),
    of_run("eval of a missing run", "eval nowhere", "no run directory nowhere"),
    of_run("predict with a missing run", "predict nowhere --text a", "no run directory nowhere"),
    of_run("eval of half a run", "eval old", "old is not a complete run", "model.json", prepare=looks_like_a_run),
    of_run("predict on a missing file", "predict nowhere nowhere.csv", "nowhere.csv"),
    of_run("predict on text and file", "predict nowhere good.jsonl --text a", "not both"),
    of_run("predict on lone pairs", "predict nowhere --pair a", "--pair", "--text"),
    of_run("unknown argument", "predict nowhere --txt a", "--txt", "lx predict --help"),
    of_run(
        "predictions over their input", "predict nowhere good.jsonl --out ./good.jsonl", "--out good.jsonl", "is read"
    ),
    of_run("metrics over their data", "eval nowhere data.test=good.jsonl --out good.jsonl", "is read"),
    of_run("a report over its data", "bench data.train=good.jsonl --out good.jsonl", "is read"),
    of_run("predictions over a run's labels", "predict old good.jsonl --out old/labels.json", "a file of a run"),
    of_run("metrics over a checkpoint", "eval old --out old/checkpoints/best-7.ckpt", "a file of a run"),
    of_run(
        "predictions named otherwise",
        "predict old good.jsonl --out a.txt",
        "--out a.txt",
        "no .txt",
        "ends in .jsonl, ",
    ),
    of_run(
        "metrics named otherwise", "eval old --out a.csv", "--out a.csv", "no .csv: choose a name that ends in .json"
    ),
    of_run("a report named otherwise", "bench --out a.jsonl", "no .jsonl: choose a name that ends in .json"),
    of_run(
        "a setting with hyphens", "check --data.train=good.jsonl", "--data.train", "no hyphens: data.train=good.jsonl"
    ),
    of_run("an option for a setting", "train --model tiny", "--model", "it is written model=VALUE"),
    of_run("a misspelt option", "predict nowhere --txt a", "--txt", "did you mean '--text'"),
    of_run(
        "no directory for predictions", "predict old good.jsonl --out no/p.csv", "cannot write no/p.csv", "no directory"
    ),
    of_run("no directory for a report", "bench --out no/report.json", "cannot write no/report.json", "no directory"),
    of_run("a directory for metrics", "eval old --out .", "cannot write .", "it is a directory"),
    of_run("unknown information", "train --info nothing", "'nothing'", "defaults-tree"),
    of_run("an empty config directory", "train --config-dir=", "--config-dir is empty"),
    of_run("a part of no configuration", "train --package model", "need it: --cfg job"),
    of_run("a plan of a single run", "train --dry-run", "--dry-run", "needs -m", "lx check"),
    # sweeps and runs, each where the other is wanted
    of_run("a sweep without -m", "train sweep=tpe", "lx train -m sweep=tpe"),
    of_run("a sweep's setting without -m", "check sweep.seeds=2", "lx train -m sweep.seeds=2"),
    of_run("a sweep's pruner without -m", "train sweep/pruner=median", "lx train -m sweep/pruner=median"),
    of_run("a sweep's misspelt setting", "train -m sweep.n_trails=2", "'sweep.n_trails'", "'sweep.n_trials'"),
    of_run("explain a sweep", "explain sweep --text a", "such as sweep/0/seed-0", prepare=looks_like_a_sweep),
    of_run("explain a trial", "explain sweep/0 --text a", "such as sweep/0/seed-0", prepare=looks_like_a_sweep),
    of_run("resume a sweep as a run", "resume sweep", "lx sweep resume sweep", prepare=looks_like_a_sweep),
    of_run("settings of a table", "sweep show sweep seed=1", "seed=1", "no settings", prepare=looks_like_a_sweep),
    of_run("add a word", "sweep resume sweep sweep.n_trials=+x", "n_trials is 4", prepare=looks_like_a_sweep),
    of_run("add time", "sweep resume sweep sweep.budget=+1m", "is not set", prepare=looks_like_a_sweep),
    of_run("over a trial", "bench --out sweep/0/trial.json", "a file of a run or sweep", prepare=looks_like_a_sweep),
    of_run("over another run", "bench --out old/result.json", "a file of a run or sweep", prepare=looks_like_a_run),
    of_run("unknown shell", "completion csh", "'csh'", "bash, zsh and fish"),
]


@bad_inputs(CASES)
def test_bad_input_gets_one_clear_message(case: Case, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(case, here, capfd)


OF_PROCESSES = [
    setting("misspelt key", "optimizer.lrr=1", "'optimizer.lrr'", "did you mean 'optimizer.lr'"),
    given("missing file", "data.train=nowhere.csv", "data.train", "no file nowhere.csv"),
    next(case for case in CASES if case.name == "run directory in use"),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", OF_PROCESSES, ids=lambda case: case.name)
def test_exit_code_of_the_process(case: Case, here: Path) -> None:
    lay_out(case, here)
    before = snapshot(here)
    arguments = [argument for argument in case.arguments if argument != "launch=inline"]
    done = lx(here, *arguments)
    assert done.stdout == ""
    assert_clear(case, done.returncode, done.stderr, before, snapshot(here))
