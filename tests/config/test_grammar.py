"""What is typed is what arrives, or one message that shows how to type it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

import lx
from lx.config.grammar import as_grammar, for_shell, parse, quoted, with_files
from lx.errors import LxError


def value(override: str, several: bool = False) -> object:
    (parsed,) = parse(as_grammar([override], several))
    return parsed.value()


TEXTS = [
    *["文本", "~/x.csv", "22/train (1).csv", "fold=1/train.csv", "it's #2, final.csv", "Text (EN)", "#text", "a&b;c"],
    *[
        "exp [v2]",
        "data(1)",
        "train(1).csv",
        "naïve",
        "x\u00a0y",
        "a|b<c>d",
        "what?!",
        "100%",
        "标签=1",
        "a\nb",
        "Straße/ü",
    ],
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_that_can_be_read_in_one_way_arrives_as_it_is(text: str) -> None:
    assert value(f"data.train={text}") == text
    assert value(f"+data.train={text}") == text


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("{Food & Drink: 2.0}", {"Food & Drink": 2.0}),
        ("{Food & Drink:2, Rock'n'Roll:1e-3}", {"Food & Drink": 2, "Rock'n'Roll": 1e-3}),
        ('{"Sci, Tech": 2.0, 体育: 1}', {"Sci, Tech": 2.0, "体育": 1}),
        ("{a:1}", {"a": 1}),
        ("[体育, 财经]", ["体育", "财经"]),
        ("['a, b', c & d, 1, null]", ["a, b", "c & d", 1, None]),
    ],
)
def test_names_in_lists_and_mappings_may_be_any(typed: str, expected: object) -> None:
    assert value(f"task.class_weights={typed}") == expected
    assert value(f"task.class_weights={typed}", several=True) == expected


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("data.test=", "data.test is empty"),
        ("data.test=  ", "data.test is empty"),
        ("model=", "model is empty"),
        ("+data.test=", "data.test is empty"),
        ("hello", "'hello' is no setting"),
        ("文=1", "'文' can be no setting's name"),
        ("a b=1", "'a b' can be no setting's name"),
        ("seed=0,1,2", "lx train -m seed=0,1,2"),
        ("optimizer.lr=choice(0.1,0.2)", "lx train -m 'optimizer.lr=choice(0.1,0.2)'"),
        ("data.train=a.csv,b.csv", "'data.train=\"a.csv,b.csv\"'"),
        ("optimizer.lr=[1,", "cannot be read"),
        ("optimizer.lr=choice(1", "cannot be read"),
        ("name='x", "cannot be read"),
        ("name=${seed} (1)", "cannot be read"),
        ("task.class_weights={Sci, Tech: 2.0}", "'task.class_weights={\"Sci, Tech\": 2.0}'"),
        ("task.class_weights={a: 1, Sci, Tech: 2.0}", '\'task.class_weights={"a": 1, "Sci, Tech": 2.0}\''),
    ],
)
def test_what_could_be_read_in_several_ways_is_refused(override: str, says: str) -> None:
    with pytest.raises(LxError) as error:
        as_grammar([override])
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (
            "data.batch_size = 16",
            "data.batch_size: a setting is written without spaces: data.batch_size=16",
        ),
        ("data.batch_size= 16", "without spaces: data.batch_size=16"),
        ("seed=1 data.text ='my text'", "data.text: .*: 'data.text=my text'"),
        ("+callbacks.x =", r"\+callbacks.x: .*: \+callbacks.x=value"),
        ("'data.text = x'", "'data.text ': .* with ASCII's =: data.text=x"),
        ("data.text＝文本", "'data.text＝文本': .* with ASCII's =: 'data.text=文本'"),
        ("data.test= model=tiny", "data.test is empty"),
        ("data.test= ~logger", "data.test is empty"),
        ("data.test=a= b", "'b' is no setting"),
    ],
)
def test_spaces_around_the_equals_sign(typed: str, says: str) -> None:
    with pytest.raises(LxError, match=says):
        as_grammar(shlex.split(typed))


def test_the_word_that_a_message_shows_is_read_as_the_value() -> None:
    for text in [*TEXTS, "a,b", "'x", '"', "[1,", "choice(1", "\\", "a\\'", "{x"]:
        (word,) = shlex.split(for_shell("name", text))
        assert value(word) == text
    (word,) = shlex.split("'task.class_weights={\"Sci, Tech\": 2.0}'")
    assert value(word) == {"Sci, Tech": 2.0}


def test_in_a_sweep_a_comma_separates() -> None:
    assert as_grammar(["seed=0,1"], several=True) == ["seed=0,1"]
    assert value("data.train=train (1).csv", several=True) == "train (1).csv"
    with pytest.raises(LxError, match="if it is meant as text"):
        as_grammar(["data.train=train (1).csv,文.csv"], several=True)


def test_a_file_needs_no_kind_of_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lx.compose(["data.train=训练 (1).csv", "data.text=文本"]).data.train == "训练 (1).csv"
    assert with_files(["data.test=x.csv"])[0] == "data=files"
    for overrides in (
        ["data=hub", "data.train=x"],
        ["data.path=x", "data.train=x"],
        ["experiment=trec", "data.train=x"],
    ):
        assert with_files(overrides) == overrides
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data.csv").touch()
    with pytest.raises(LxError, match=r"to read that file: 'data.train=my data.csv'"):
        as_grammar(["my data.csv"])


def test_what_the_grammar_accepts_stays_as_it_was_typed() -> None:
    typed = [
        "a=1_000",
        "a=x y",
        "a={b:c}",
        "a=${seed}",
        "~a",
        "~a=b",
        "++a=b",
        "a=null",
        'a="x,y"',
        "a=a:b",
        "model/position=none",
    ]
    assert as_grammar(typed) == typed
    assert as_grammar(as_grammar([f"name={text}" for text in TEXTS])) == as_grammar([f"name={text}" for text in TEXTS])
    for text in TEXTS:
        assert OverridesParser.create().parse_override(f"a={quoted(text)}").value() == text
