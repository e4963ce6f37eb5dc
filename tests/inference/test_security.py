"""A run directory from a stranger runs no code, reads nothing outside itself, fetches nothing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from lx.cli.main import main
from support.hostile import (
    BERT,
    Payload,
    Spoil,
    change_a_byte,
    checkpoint,
    config,
    edit_config,
    link,
    link_to_secret,
    pretrained,
    raw_pickle,
    sizes,
    target,
    token_offsets,
    token_table,
    truncate,
    write,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


SECRET = "hunter2"


@pytest.fixture
def run(trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a run beside a secret file, where every attempt to reach the network is an error."""

    def no_network(*arguments: Any, **options: Any) -> Any:
        (tmp_path / "touched").touch()
        raise OSError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setenv("SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text(f"{SECRET} 0.5 0.5\n")
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


# What was done to the directory; what is said of it.
HOSTILE: dict[str, tuple[Spoil, str]] = {
    "pickle in the checkpoint": (
        checkpoint(lambda content, touched: content | {"x": Payload(touched)}),
        "run code of its own",
    ),
    "pickle instead of the checkpoint": (raw_pickle, "best.ckpt"),
    "os.system": (target("os.system", "touch touched"), "'os.system', which is none"),
    "os.system as the task": (target("os.system", "touch touched", at="task"), "'os.system', which is none"),
    "os.system as a position": (
        target("os.system", "touch touched", at="model.position"),
        "'os.system', which is none",
    ),
    "os.system in a list": (config("model.norm.x", [[{"_target_": "os.system"}]]), "'os.system', which is none"),
    "builtins.eval": (
        target("builtins.eval", "open('touched', 'w')", at="model.pooling"),
        "'builtins.eval', which is none",
    ),
    "torch.load": (target("torch.load", "secret.txt"), "'torch.load', which is none"),
    "torch.hub.load": (target("torch.hub.load", "evil/repo", "model"), "'torch.hub.load', which is none"),
    "torch.hub by way of lx": (
        target("lx.nn.attention.torch.hub.load", "evil/repo", "model"),
        "lx.nn.attention.torch.hub.load",
    ),
    "a way of lx that is no model": (target("lx.launch.inline.train", {}), "'lx.launch.inline.train', which is none"),
    "hydra's own helpers": (
        target("hydra.utils.get_method", "os.system"),
        "'hydra.utils.get_method', which is none",
    ),
    "os.system as an architecture": (
        lambda run: (pretrained(_target_="os.system", _args_=["touch touched"])(run), None)[1],
        "'os.system'",
    ),
    "torch.load as an architecture": (
        pretrained(_target_="torch.load", f="secret.txt"),
        "'torch.load', which is none",
    ),
    "os.system in an architecture": (pretrained(**BERT, x={"_target_": "os.system"}), "'os.system', which is none"),
    "an environment variable": (config("name", "${oc.env:SECRET}"), "interpolation"),
    "an environment variable as a key": (config("data", {"${oc.env:SECRET}": 1}), "interpolation"),
    "an environment variable in the model": (config("model.vectors", "${oc.env:SECRET}"), "interpolation"),
    "an environment variable in an architecture": (pretrained(**BERT, x="${oc.env:SECRET}"), "interpolation"),
    "a python object in the config": (
        write("config.yaml", "x: !!python/object/apply:os.system ['touch touched']"),
        "plain data",
    ),
    **{
        f"a link in place of {name}": (link(name), f"{name} is a link")
        for name in ("config.yaml", "tokenizer.json", "labels.json", "model.json", "checkpoints/best.ckpt")
    },
    **{
        f"a link to a secret in place of {name}": (link_to_secret(name), f"{name} is a link")
        for name in ("config.yaml", "tokenizer.json", "labels.json", "model.json", "checkpoints/best.ckpt")
    },
    "a link in place of the checkpoints": (link("checkpoints"), "is a link"),
    "a pretrained model without an architecture": (pretrained(), "not supported"),
    "an architecture that is no text encoder": (pretrained(model_type="clip"), "not supported"),
    "an architecture with code": (
        pretrained(**BERT, auto_map={"AutoModel": "evil/repo--m.M"}, trust_remote_code=True),
        "fit",
    ),
    "an architecture with kernels": (
        pretrained(**BERT, attn_implementation="evil/kernel", _attn_implementation="evil/kernel"),
        "fit",
    ),
    "truncated checkpoint": (truncate("checkpoints/best.ckpt"), "truncated or not a checkpoint"),
    "a changed byte in the checkpoint": (change_a_byte("checkpoints/best.ckpt"), "checksum does not fit"),
    "no checkpoint": (lambda run: (run / "checkpoints/best.ckpt").unlink(), "best.ckpt is missing"),
    "a checkpoint without weights": (checkpoint(lambda content, touched: {"weights": [1]}), "no weights"),
    "a checkpoint of other names": (
        checkpoint(lambda content, touched: {"weights": {"x": torch.ones(2)}}),
        "do not fit",
    ),
    "a checkpoint of other shapes": (
        checkpoint(lambda content, touched: {"weights": {k: v[:1] for k, v in content["weights"].items()}}),
        "do not fit",
    ),
    "no model": (config("model", None), "no model node"),
    "labels that are no list": (write("labels.json", '{"a": 1}'), "labels.json"),
    "labels that are numbers": (write("labels.json", "[1, 2, 3]"), "labels.json"),
    "too few labels": (write("labels.json", '["a", "b"]'), "number of classes"),
    "labels that are not JSON": (write("labels.json", "["), "not valid JSON"),
    "sizes that are no mapping": (write("model.json", "[]"), "model.json"),
    "a missing size": (sizes(vocab_size=...), "vocab_size"),
    "a size that is text": (sizes(num_outputs="3"), "num_outputs"),
    "a negative size": (sizes(num_token_types=-1), "num_token_types"),
    "no label set": (sizes(label_set=...), "label_set"),
    "no class counts": (sizes(label_set={}), "class_counts"),
    "class counts that are text": (sizes(label_set={"class_counts": "123"}), "class_counts"),
    "an unknown fact about labels": (sizes(label_set={"class_counts": [1, 1, 1], "x": 1}), "do not fit"),
    "a huge vocabulary": (sizes(vocab_size=10**12), "fit"),
    "a large width": (config("model.dim", 10**5), "fit"),
    "a huge width": (config("model.dim", 10**9), "beyond"),
    "a huge depth": (config("model.num_layers", 10**9), "beyond"),
    "a width that is text": (config("model.dim", "wide"), "model"),
    "an unknown setting": (config("model.extra", 1), "model"),
    "no data settings": (config("data", None), "data.max_length"),
    "a length that is text": (config("data.max_length", "x"), "data.max_length"),
    "no precision": (config("hardware", {}), "precision"),
    "an unknown precision": (config("hardware.precision", "huge"), "precision"),
    "a tokenizer that is none": (write("tokenizer.json", "{}"), "tokenizer.json"),
    "a config that is a list": (write("config.yaml", "[]"), "config.yaml"),
    "a config of bytes": (write("config.yaml", b"\xff\xfe\x00"), "config.yaml"),
}


HOSTILE_TO_EVAL: dict[str, tuple[Spoil, str]] = {
    "a link in place of test.arrow": (link("test.arrow"), "test.arrow is a link"),
    "no test.arrow": (lambda run: (run / "test.arrow").unlink(), "test.arrow is missing"),
    "ids beyond the vocabulary": (token_table([2, 10**6, 3]), "test.arrow"),
    "negative ids": (token_table([2, -1, 3]), "test.arrow"),
    "an unknown label": (token_table(label=99), "test.arrow"),
    "a missing label": (token_table(label=None), "test.arrow"),
    "offsets beyond the ids": (token_offsets(0, 10**6), "test.arrow"),
    "falling offsets": (token_offsets(3, 1), "test.arrow"),
    "negative offsets": (token_offsets(-4, 3), "test.arrow"),
    "an empty example": (token_offsets(1, 1), "test.arrow"),
    "a damaged file": (write("test.arrow", b"ARROW1\0\0 and no more"), "test.arrow"),
}


CASES = [*product(("eval", "predict"), HOSTILE), *product(["eval", "explain"], HOSTILE_TO_EVAL)]


@pytest.mark.parametrize(("verb", "name"), CASES)
def test_a_hostile_directory_is_refused(verb: str, name: str, run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, says = (HOSTILE | HOSTILE_TO_EVAL)[name]
    spoil(run)
    arguments = {"predict": ["--text", "bread"], "eval": ["hardware=cpu"], "explain": ["--row", "0"]}
    code = main([verb, "run", *arguments[verb]])
    captured = capfd.readouterr()
    assert code == 2, captured.err
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.count("lx: error: ") == 1 and "Traceback" not in captured.err
    assert len(captured.err.splitlines()) < 8
    assert SECRET not in captured.err
    assert not (run.parent / "touched").exists(), "code was run, or the network was asked"
    assert not (run / "eval.json").exists()


def test_the_spoiled_directory_was_fine_before(run: Path) -> None:
    assert main(["predict", "run", "--text", "bread"]) == 0
    assert main(["eval", "run", "hardware=cpu"]) == 0
    assert not (run.parent / "touched").exists()
    assert json.loads((run / "eval.json").read_text())["metrics"].keys() >= {"test/accuracy", "test/loss"}


def test_the_origin_of_the_vectors_is_not_read(run: Path, capfd: pytest.CaptureFixture[str]) -> None:
    edit_config(run, "model.vectors", str(run.parent / "secret.txt"))
    assert main(["predict", "run", "--text", "bread"]) == 0
    captured = capfd.readouterr()
    assert SECRET not in captured.out + captured.err


def test_a_planted_temporary_name_is_not_followed(run: Path) -> None:
    (run.parent / "victim").write_text("mine")
    for number in (os.getpid(), os.getppid()):
        (run / f".eval.json.{number}.tmp").symlink_to(run.parent / "victim")
    (run / "eval.json").symlink_to(run.parent / "victim")
    assert main(["eval", "run", "hardware=cpu"]) == 0
    assert (run.parent / "victim").read_text() == "mine"


def test_trust_lets_the_named_package_through(
    run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (run.parent / "my_pkg.py").write_text(
        "from lx.nn.pooling import MeanPooling\n\nclass Mine(MeanPooling):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(run.parent))
    edit_config(run, "model.pooling._target_", "my_pkg.Mine")
    command = ["predict", "run", "--text", "bread"]
    assert main(command) == 2
    assert "--trust my_pkg" in capfd.readouterr().err
    assert "my_pkg" not in sys.modules
    assert main([*command, "--trust", "other"]) == 2
    capfd.readouterr()
    assert main([*command, "--trust", "my_pkg"]) == 0
    assert json.loads(capfd.readouterr().out)["text"] == "bread"
