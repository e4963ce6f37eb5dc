"""Settings as JSON, as the agent of a W&B sweep gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lx.config.compose import compose
from lx.config.json_overrides import overrides_from_json
from lx.errors import LxError

TEXTS = [
    *[
        "",
        "tiny",
        "a,b",
        "a=b",
        " a b ",
        "学习率",
        "it's",
        'say "x"',
        "back\\slash",
        "end\\",
        "\\'",
        "\\\\'x",
        "a\nb",
        "null",
    ],
    *["1e-5", "true", "[1]", "{a}", "~x", "a:b", "#", "%", "choice(1,2)", "a'b,c='d'"],
]
OTHERS = [None, True, 3, -3, 1e-05, 0.1, 1e300, float("nan"), [], [1, 2.5, None, "a,b", ["c"]], [{"a": "b c"}]]


@pytest.mark.parametrize("value", [*TEXTS, *OTHERS], ids=repr)
def test_a_value_is_read_back_as_it_was(value: Any) -> None:
    (override,) = overrides_from_json(json.dumps({"name": value}))
    assert repr(OverridesParser.create().parse_override(override).value()) == repr(value)  # 1 is not True, nan is nan


def test_a_text_reaches_the_configuration() -> None:
    name = "a, b=c 'd' 学习率\\"
    assert compose(overrides_from_json(json.dumps({"name": name}))).name == name


def test_groups_and_nested_settings() -> None:
    text = '{"model": "tiny", "model/position": "none", "optimizer": {"lr": 1e-05}, "trainer.gradient_clip_val": null}'
    cfg = compose(overrides_from_json(text))
    assert cfg.model.position._target_ == "lx.nn.position.NoPosition"
    assert cfg.optimizer.lr == 1e-05
    assert cfg.trainer.gradient_clip_val is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name"),
        ("[1]", "an object such as"),
        ('{"学": 1}', r'\{"学": 1\} cannot be written as key=value'),
        ('{"a b": 1}', "cannot be written"),
        ('{"a=b": 1}', "cannot be written"),
        ('{"name": [{"a,b": 1}]}', "cannot be written"),
    ],
)
def test_what_cannot_be_expressed_is_refused(text: str, message: str) -> None:
    with pytest.raises(LxError, match=message):
        overrides_from_json(text)
