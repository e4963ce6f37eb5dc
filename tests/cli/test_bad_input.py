"""Every bad input gets one clear message, exit code 2, and leaves nothing behind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from lx.cli.main import main
from support.commands import lx
from support.corpus import examples, jsonl

# Lightning's own use of torch's trees
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")

SMALL = [
    "tokenizer=word",
    "model=tiny",
    "model.dim=8",
    "model.num_heads=2",
    "model.num_layers=1",
    "hardware=cpu",
    "hardware.precision=32-true",
    "logger=none",
    "trainer.max_epochs=1",
    "data.batch_size=4",
    "data.max_length=16",
    "launch=inline",
]


def csv(content: list[dict[str, str]]) -> str:
    return "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in content)


@dataclass(frozen=True)
class Case:
    """A command line, what its message must say, and the files that it meets."""

    name: str
    command: str
    says: tuple[str, ...]
    files: dict[str, str | bytes] | None = None
    prepare: Callable[[Path], None] | None = None
    small: bool = True

    @property
    def arguments(self) -> list[str]:
        verb, *rest = self.command.split()
        return [verb, *(SMALL if self.small and verb in ("train", "check") else []), *rest]


def given(name: str, command: str, *says: str, **files: str | bytes) -> Case:
    """A training on files; a double underscore in a keyword is the dot of the file's name."""
    content = {key.replace("__", "."): value for key, value in files.items()}
    return Case(name, f"train data=files run_dir=run {command}", says, content)


def setting(name: str, override: str, *says: str) -> Case:
    """An override that good data does not save."""
    return Case(name, f"train data=files data.train=good.jsonl run_dir=run {override}", says)


def of_run(name: str, command: str, *says: str, prepare: Callable[[Path], None] | None = None) -> Case:
    """A command on ``old``, a directory that looks like a run."""
    return Case(name, command, says, prepare=prepare)


def looks_like_a_run(path: Path) -> None:
    (path / "old" / "checkpoints").mkdir(parents=True)
    (path / "old" / "config.yaml").write_text("seed: 0\n")
    (path / "old" / "result.json").write_text('{"status": "finished"}\n')


def file_in_the_way(path: Path) -> None:
    (path / "blocked").write_text("mine\n")


GOOD = examples(24)
TRAIN = "data.train=good.jsonl"

CASES = [
    # files
    given("no file named", "", "data.train is not set", "data=files data.train="),
    given("missing file", "data.train=nowhere.csv", "data.train", "no file nowhere.csv"),
    given("missing test file", f"{TRAIN} data.test=nowhere.jsonl", "data.test", "nowhere.jsonl"),
    given("unknown extension", "data.train=a.xlsx", "a.xlsx", ".csv", a__xlsx="x"),
    given("missing column", f"{TRAIN} data.text=body", "no column 'body'", "text, pair, label", "data.text"),
    given("misspelt column", f"{TRAIN} data.label=lable", "did you mean 'label'", "text, pair, label"),
    given("missing pair column", f"{TRAIN} data.text_pair=second", "no column 'second'", "data.text_pair"),
    given("csv row too long", "data.train=a.csv", "a.csv:3", "header has 2", a__csv="text,label\na,b\na,b,c\n"),
    given("csv quote never closed", "data.train=a.csv", "a.csv:2", "never closed", a__csv='text,label\n"a,b\nc,d\n'),
    given(
        "malformed json",
        "data.train=a.jsonl",
        "a.jsonl:2",
        "not valid JSON",
        a__jsonl='{"text": "a", "label": 1}\n{"text',
    ),
    given("json array", "data.train=a.json", "a.json:1", "one object a line", a__json='[{"text": "a", "label": 1}]'),
    given(
        "wrong encoding",
        "data.train=a.csv",
        "a.csv:2",
        "not UTF-8",
        "iconv",
        a__csv="text,label\ncaf\xe9,b\n".encode("latin1"),
    ),
    given(
        "truncated gzip",
        "data.train=a.csv.gz",
        "a.csv.gz",
        "cut short",
        a__csv__gz=gzip.compress(b"text,label\na,b\n" * 99)[:40],
    ),
    given("not a gzip", "data.train=a.csv.gz", "a.csv.gz", "not a gzip", a__csv__gz="text,label\n"),
    given("not parquet", "data.train=a.parquet", "a.parquet", "not a Parquet file", a__parquet="PAR"),
    given("empty csv", "data.train=a.csv", "a.csv", "empty", a__csv=""),
    given("empty json lines", "data.train=a.jsonl", "a.jsonl", "empty", a__jsonl=""),
    given("header only", "data.train=a.csv", "a.csv", "header and no rows", a__csv="text,label\n"),
    given("empty split", f"{TRAIN} data.test=a.csv", "a.csv", "no rows", a__csv="text,label\n"),
    given("text is no string", "data.train=a.jsonl", "a.jsonl:1", "an integer", a__jsonl='{"text": 1, "label": 1}\n'),
    given("label is a list", "data.train=a.jsonl", "a.jsonl:1", "a list", a__jsonl='{"text": "a", "label": [1]}\n'),
    given("label is empty", "data.train=a.jsonl", "a.jsonl:1", "label", a__jsonl='{"text": "a", "label": null}\n'),
    # classes
    given("one class", "data.train=a.csv", "a.csv", "'x'", "two classes", a__csv="text,label\na,x\nb,x\nc,x\n"),
    given(
        "unseen test label",
        f"{TRAIN} data.test=a.csv",
        "a.csv:3",
        "'spice'",
        "never occurs",
        "food, music, space",
        a__csv="text,label\na,food\nb,spice\n",
    ),
    given(
        "unseen validation label",
        f"{TRAIN} data.validation=a.csv",
        "a.csv:2",
        "'foods'",
        "did you mean 'food'",
        a__csv="text,label\na,foods\n",
    ),
    given(
        "label not in names", f"{TRAIN} data.class_names=[food,music]", "good.jsonl:3", "'space'", "data.class_names"
    ),
    given("class named twice", f"{TRAIN} data.class_names=[food,food]", "data.class_names", "twice"),
    # empty texts
    given(
        "empty text refused",
        "data.train=a.jsonl data.on_empty=error",
        "a.jsonl:2",
        "empty",
        "2 row(s)",
        "data.on_empty=drop",
        a__jsonl=jsonl([GOOD[0], {**GOOD[1], "text": " "}, {**GOOD[2], "text": None}, *GOOD[3:]]),
    ),
    given("only empty texts", "data.train=a.csv", "a.csv", "all 2 texts are empty", a__csv="text,label\n ,x\n ,y\n"),
    given("too few rows to cut", "data.train=a.csv", "a.csv", "data.validation", a__csv="text,label\na,x\nb,y\n"),
    # keys and options
    setting("misspelt key", "optimizer.lrr=1", "'optimizer.lrr'", "did you mean 'optimizer.lr'"),
    setting("misspelt top key", "sed=1", "'sed'", "did you mean 'seed'"),
    setting("misspelt group", "optimiser=adam", "'optimiser'", "did you mean 'optimizer'"),
    setting("misspelt option", "optimizer=adamww", "optimizer=adamww", "did you mean 'adamw'", "sgd"),
    setting("misspelt nested option", "model/position=rotari", "did you mean 'rotary'", "alibi"),
    setting("broken override", "optimizer.lr", "optimizer.lr", "key=value"),
    setting("broken value", "optimizer.lr=[1,", "key=value"),
    # types
    setting("word for a number", "optimizer.lr=fast", "optimizer.lr must be a number", "'fast'"),
    setting("fraction for a whole number", "data.batch_size=2.5", "data.batch_size must be a whole number", "2.5"),
    setting("list for a whole number", "trainer.max_epochs=[1]", "trainer.max_epochs must be a whole number"),
    setting("number for a bool", "tokenizer.lowercase=3", "tokenizer.lowercase must be true or false", "3"),
    setting("bool for a number", "seed=true", "seed must be a whole number", "True"),
    setting("null-default whole number", "trainer.max_steps=many", "trainer.max_steps must be a whole number or null"),
    setting("null-default number", "trainer.ema_decay=yes", "trainer.ema_decay must be a number or null"),
    setting("null for a whole number", "data.max_length=null", "data.max_length must be a whole number"),
    setting("null-default of a constructor", "model.embedding_dim=wide", "model.embedding_dim", "whole number"),
    setting("a number for a path", "data.test=5", "data.test", "5"),
    # ranges
    setting("no epochs", "trainer.max_epochs=0", "trainer.max_epochs must be at least 1", "not 0"),
    setting("negative rate", "optimizer.lr=-1", "optimizer.lr must be above 0"),
    setting("whole dropout", "model.dropout=1.0", "model.dropout", "not including, 1"),
    setting("all is validation", "data.validation_fraction=1.0", "data.validation_fraction must be between 0 and 1"),
    setting("unknown mode", "objective.mode=most", "objective.mode must be max or min"),
    setting("unknown launch", "launch=rocket", "launch must be process, inline or prepare"),
    setting("zero micro-batch", "hardware.micro_batch=0", "hardware.micro_batch must be at least 1"),
    setting("heads do not divide", "model.num_heads=3", "model.dim=8", "model.num_heads=3", "model.dim=9"),
    setting(
        "beyond positions",
        "model/position=learned model.position.max_length=8",
        "data.max_length=16",
        "model.position.max_length",
    ),
    setting("odd rotary heads", "model/position=rotary model.dim=6", "model.dim=6 over num_heads=2", "rotary", "even"),
    # settings against the data and the machine
    setting(
        "vocabulary below the alphabet",
        "tokenizer=bpe tokenizer.vocab_size=100",
        "tokenizer.vocab_size=100",
        "alphabet",
        "260",
    ),
    setting(
        "vocabulary below the characters",
        "tokenizer=wordpiece tokenizer.vocab_size=9",
        "tokenizer.vocab_size=9",
        "alphabet",
    ),
    setting(
        "unigram below the characters", "tokenizer=unigram tokenizer.vocab_size=9", "tokenizer.vocab_size=9", "alphabet"
    ),
    setting(
        "batch larger than the data", "data.batch_size=500", "data.batch_size=500", "larger than the training split"
    ),
    setting("no such tokenizer", "tokenizer=pretrained", "tokenizer.path"),
    setting("no such vectors", "model.vectors=nowhere.txt", "model.vectors=nowhere.txt"),
    setting("frozen without vectors", "model.freeze_vectors=true", "model.vectors"),
    setting(
        "unknown objective",
        "objective.metric=val/acuracy",
        "objective.metric=val/acuracy",
        "did you mean 'val/accuracy'",
        "val/loss",
    ),
    setting("unknown precision", "hardware.precision=bf17", "hardware.precision=bf17", "bf16-mixed"),
    setting("unknown accelerator", "hardware.accelerator=abacus", "hardware.accelerator=abacus", "cpu, gpu or mps"),
    setting("unknown class weights", "task.class_weights={spice:2}", "'spice'", "food, music, space"),
    setting("unknown weighting", "task.class_weights=balansed", "did you mean 'balanced'"),
    setting("no schedule fits", "scheduler.warmup=-1", "warmup"),
    setting("no devices", "hardware.devices=0", "hardware.devices must be at least 1, or auto", "not 0"),
    setting("a word for devices", "hardware.devices=all", "hardware.devices must be", "'all'"),
    setting("unknown strategy", "hardware.strategy=dp", "hardware.strategy must be auto, ddp or fsdp"),
    setting("unknown on_nan", "trainer.on_nan=ignore", "trainer.on_nan must be stop or skip"),
    setting("no best to keep", "trainer.keep_best=0", "trainer.keep_best must be at least 1"),
    # settings that would be silently overridden
    setting("inline on devices", "hardware=ddp_cpu", "launch=inline", "hardware.devices=2", "launch=process"),
    setting("inline on nodes", "hardware.num_nodes=2", "launch=inline", "hardware.num_nodes=2"),
    setting("inline with a strategy", "hardware.strategy=fsdp", "launch=inline", "hardware.strategy=fsdp"),
    setting("inline on slurm", "hardware=slurm", "launch=inline", "hardware=slurm"),
    Case(
        "debug on devices",
        f"train data=files {TRAIN} run_dir=run debug=fast hardware=ddp_cpu",
        ("debug=fast", "launch=inline", "hardware.devices=2"),
        small=False,
    ),
    setting("steps and epochs", "trainer.max_steps=5 trainer.max_epochs=2", "trainer.max_epochs has no effect", "=5"),
    setting(
        "validations after one and a half",
        "trainer.val_check_interval=1.5",
        "trainer.val_check_interval must be a whole number of steps, a share of an epoch",
    ),
    setting(
        "validations by steps and epochs",
        "trainer.val_check_interval=5 trainer.check_val_every_n_epoch=2",
        "trainer.check_val_every_n_epoch has no effect",
        "trainer.val_check_interval=5",
    ),
    Case(
        "another tokenizer",
        f"train data=files {TRAIN} run_dir=run model=pretrained model.path=bert tokenizer=word",
        ("model=pretrained needs the tokenizer that it was trained with", "another kind"),
        small=False,
    ),
    Case(
        "a tokenizer of another model",
        f"train data=files {TRAIN} run_dir=run model=pretrained model.path=bert tokenizer.path=roberta",
        ("model=pretrained needs the tokenizer that it was trained with", "roberta"),
        small=False,
    ),
    Case(
        "an experiment that names hardware",
        f"train --config-dir mine data=files {TRAIN} run_dir=run experiment=big",
        ("experiment=big", "hardware.devices", "command line"),
        {"mine/experiment/big.yaml": "# @package _global_\nhardware:\n  devices: 2\n"},
    ),
    Case(
        "an option that lx has",
        f"train --config-dir mine data=files {TRAIN} run_dir=run",
        ("mine/model/tiny.yaml", "another name"),
        {"mine/model/tiny.yaml": "dim: 3\n"},
    ),
    setting("a word for a micro-batch", "hardware.micro_batch=big", "hardware.micro_batch must be", "auto or null"),
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
    of_run("eval of nothing", "eval", "RUN", "lx eval --help"),
    of_run("eval of a missing run", "eval nowhere", "no run directory nowhere"),
    of_run("predict with a missing run", "predict nowhere --text a", "no run directory nowhere"),
    of_run("eval of half a run", "eval old", "old is not a complete run", "model.json", prepare=looks_like_a_run),
    of_run("predict on a missing file", "predict nowhere nowhere.csv", "nowhere.csv"),
    of_run("predict on text and file", "predict nowhere good.jsonl --text a", "not both"),
    of_run("predict on lone pairs", "predict nowhere --pair a", "--pair", "--text"),
    of_run("unknown argument", "predict nowhere --txt a", "--txt", "lx predict --help"),
    of_run("unknown shell", "completion csh", "'csh'", "bash, zsh and fish"),
]


def snapshot(path: Path) -> dict[str, bytes | None]:
    """Every file's bytes and every directory, the cache left out."""
    found = (p for p in sorted(path.rglob("*")) if p.relative_to(path).parts[0] != "cache")
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in found}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "good.jsonl").write_text(jsonl(GOOD))
    return tmp_path


def lay_out(case: Case, path: Path) -> None:
    for name, content in (case.files or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    if case.prepare is not None:
        case.prepare(path)


def assert_clear(
    case: Case, code: int, stderr: str, before: dict[str, bytes | None], after: dict[str, bytes | None]
) -> None:
    assert code == 2, stderr
    assert "Traceback" not in stderr
    message = stderr[stderr.index("lx: error: ") :]
    assert message.count("lx: error: ") == 1
    assert len(message.splitlines()) < 8 and len(message) < 1000, message
    for fragment in case.says:
        assert fragment in message, f"{fragment!r} is not in: {message}"
    assert after == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_gets_one_clear_message(case: Case, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lay_out(case, here)
    before = snapshot(here)
    code = main(case.arguments)
    assert_clear(case, code, capfd.readouterr().err, before, snapshot(here))


def test_there_are_enough_cases() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


def test_an_accelerator_that_is_not_there(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    case = setting("no gpu", "hardware=gpu", "hardware.accelerator=gpu", "hardware=cpu")
    before = snapshot(here)
    code = main(case.arguments)
    assert_clear(case, code, capfd.readouterr().err, before, snapshot(here))


def test_dropped_texts_are_counted(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "gaps.jsonl").write_text(jsonl([*GOOD, {**GOOD[0], "text": " "}, {**GOOD[1], "text": None}]))
    assert main(["check", *SMALL, "data=files", "data.train=gaps.jsonl"]) == 0
    assert "gaps.jsonl: 2 rows with an empty text were dropped" in capfd.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["misspelt key", "missing file", "run directory in use"])
def test_exit_code_of_the_process(name: str, here: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    lay_out(case, here)
    before = snapshot(here)
    arguments = [argument for argument in case.arguments if argument != "launch=inline"]
    done = lx(here, *arguments)
    assert done.stdout == ""
    assert_clear(case, done.returncode, done.stderr, before, snapshot(here))
