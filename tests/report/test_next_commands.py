"""The commands at the end of a run work when they are pasted."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from lx.config.compose import compose, resolved
from lx.report import next_commands as next_commands_module
from lx.report.next_commands import next_commands
from lx.run.directory import RunDirectory
from lx.system.files import atomic_write_json


def run_of(path: Path, overrides: list[str], has_test: bool = True, **facts: Any) -> RunDirectory:
    """A directory with what the commands follow from."""
    run = RunDirectory(path / facts.pop("name", "my run"))
    run.create()
    run.write_config(resolved(compose(overrides)) | facts.pop("config", {}))
    atomic_write_json(run.environment, {"overrides": overrides, **facts})
    sizes = {"vocab_size": 9, "num_outputs": 2, "num_token_types": 1, "has_pairs": facts.get("has_pairs", False)}
    atomic_write_json(run.model, sizes)
    if has_test:
        run.test.touch()
    return run


@pytest.fixture(autouse=True)
def _with_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_commands_module, "find_spec", lambda name: name)


FILES = ["data=files", "data.train=训练 (1).csv", "data.text=文本"]


def test_the_commands_of_a_run_on_the_users_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*FILES, "model=tiny", "model.dim=8", "run_dir=my run", "name=x", "tokenizer=word"]
    predict, evaluate, report, train = next_commands(run_of(Path(), overrides))
    assert predict == "lx predict 'my run' --text \"your text\""
    assert (evaluate, report) == ("lx eval 'my run'", "lx report 'my run'")
    lx, verb, *words = shlex.split(train)
    assert (lx, verb) == ("lx", "train")
    assert words == [*FILES, "tokenizer=word", "model=small"]
    assert compose(words).data.train == "训练 (1).csv"


@pytest.mark.parametrize(
    ("overrides", "facts", "expected"),
    [
        ([], {}, "lx train -m sweep.seeds=3"),
        (["recipe=plain"], {}, "lx train recipe=plain model=base"),
        (["model=base"], {}, "lx train model=large"),
        (["model=linear", "model.expert.C=1", "seed=3"], {}, "lx train seed=3"),
        (["model=large", "seed=3"], {}, "lx train -m model=large sweep.seeds=3"),
        (["experiment=trec", "debug=fast"], {}, "lx train -m experiment=trec sweep.seeds=3"),
        (["seed=3"], {"config_dir": "-my conf"}, "lx train --config-dir './-my conf' -m sweep.seeds=3"),
        (["model.dim=64", "run_dir=x"], {}, "lx train -m model.dim=64 sweep.seeds=3"),
        (["data.train=甲,乙.csv"], {}, None),
        (["data.train=a.csv", "hardware.num_nodes=2"], {}, None),
        (["data.train=a.csv", "model=bag"], {}, "lx train data.train=a.csv model=small"),
    ],
)
def test_the_next_experiment_on_the_same_data(
    overrides: list[str], facts: dict[str, Any], expected: str | None, tmp_path: Path
) -> None:
    assert next_commands(run_of(tmp_path, overrides, **facts))[3:] == ([expected] if expected else [])


def test_a_path_is_never_an_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_of(Path(), ["model=tiny"], name="-y")
    assert next_commands(run)[:3] == ['lx predict ./-y --text "your text"', "lx eval ./-y", "lx report ./-y"]
    assert run.quoted == "./-y"


def test_no_command_that_cannot_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(next_commands_module, "find_spec", lambda name: None)
    commands = next_commands(run_of(tmp_path, FILES, has_test=False, has_pairs=True), sync_command="wandb sync x")
    assert len(commands) == 2 and commands[1] == "wandb sync x"
    assert commands[0].endswith('--text "your text" --pair "its pair"')
    own = {"_target_": "my_pkg.Encoder"}
    python = run_of(tmp_path, [], name="own", config={**resolved(compose(FILES)), "model": own})
    assert [shlex.split(command)[-2:] for command in next_commands(python)] == [
        ["--text", "your text"],
        ["--trust", "my_pkg"],
    ]
