"""Bad settings get one clear message and exit code 2, and nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.bad_input import (
    TRAIN,
    Case,
    assert_refused,
    bad_inputs,
    setting,
)

# Lightning's own use of torch's trees
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


CASES = [
    # keys and options
    setting("misspelt key", "optimizer.lrr=1", "'optimizer.lrr'", "did you mean 'optimizer.lr'"),
    setting("misspelt top key", "sed=1", "'sed'", "did you mean 'seed'"),
    setting("misspelt group", "optimiser=adam", "'optimiser'", "did you mean 'optimizer'"),
    setting("misspelt option", "optimizer=adamww", "optimizer=adamww", "did you mean 'adamw'", "sgd"),
    setting("misspelt nested option", "model/position=rotari", "did you mean 'rotary'", "alibi"),
    setting("broken override", "optimizer.lr", "optimizer.lr", "key=value"),
    setting("broken value", "optimizer.lr=[1,", "optimizer.lr=[1, cannot be read", "'optimizer.lr=\"[1,\"'"),
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
    setting("unknown mode", "objective.mode=most", "objective.mode must be auto, max or min"),
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
    setting("unknown metric of the best", "objective.checkpoint=val/los", "did you mean 'val/loss'"),
    setting("a metric of another task", "objective.checkpoint=val/rmse", "objective.checkpoint=val/rmse is not"),
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
]


@bad_inputs(CASES)
def test_bad_input_gets_one_clear_message(case: Case, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert_refused(case, here, capfd)


def test_an_accelerator_that_is_not_there(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    case = setting("no gpu", "hardware=gpu", "hardware.accelerator=gpu", "hardware=cpu")
    assert_refused(case, here, capfd)
