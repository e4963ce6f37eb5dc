"""What a run writes into its directory, beside configuration, checkpoints and metrics."""

from __future__ import annotations

from typing import Any

from lx.data.datamodule import TextDataModule
from lx.nn.pretrained import PretrainedClassifier
from lx.run.directory import RunDirectory
from lx.system.files import atomic_write_json, link_or_copy
from lx.tracking.context import RunContext
from lx.training.module import TextClassifier


def save_model_inputs(run: RunDirectory, data: TextDataModule, module: TextClassifier) -> None:
    """Write what evaluation and prediction need besides configuration and weights.

    These are the tokenizer, the labels, the sizes of the network, the tokens of the test split, and the linear expert.
    """
    net = module.net
    run.tokenizer.write_text(data.tokenizer.to_json(), encoding="utf-8")
    label_set = dict(data.corpus.label_set)
    if "class_names" in label_set:  # in a file of its own, for other programs
        atomic_write_json(run.labels, label_set.pop("class_names"))
    sizes = {
        "vocab_size": data.tokenizer.vocab_size,
        "num_outputs": module.task.num_outputs,
        "num_token_types": data.num_token_types,
        "has_pairs": data.has_pairs,
        "label_set": label_set,
        "architecture": net.architecture() if isinstance(net, PretrainedClassifier) else None,
        "data": data.fingerprint,
    }
    atomic_write_json(run.model, sizes)
    if "test" in data.tables:
        link_or_copy(data.tables["test"].path, run.test)
    if data.expert is not None:
        link_or_copy(data.expert.tensors, run.linear)
        if "test" in data.expert.log_probabilities:
            link_or_copy(data.expert.log_probabilities["test"], run.linear_test)


def run_context(run: RunDirectory, name: str, config: dict[str, Any], step: int) -> RunContext:
    """The facts about a run that its loggers record.

    Args:
        run: its directory.
        name: its name.
        config: its resolved configuration.
        step: optimizer steps taken before, by a run that is resumed.
    """
    environment = run.read_json(run.environment)
    return RunContext(
        run.path,
        name,
        config,
        environment["overrides"],
        environment["revision"],
        environment["run_id"],
        step,
        environment.get("wandb", {}),  # runs of lx 0.1 have none
    )
