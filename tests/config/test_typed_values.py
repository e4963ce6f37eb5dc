"""Whatever is typed arrives as it is, or is refused in one short message that shows how to type it."""

from __future__ import annotations

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lx
from lx.config.grammar import as_grammar, for_shell, parse
from lx.errors import LxError

IN_THE_GRAMMAR = "()[]{}'\"\\,=:~ \t#$%&*+-./@?|!<>;^`"
TYPED = st.one_of(
    st.text(min_size=1, max_size=40),
    st.text(st.sampled_from(IN_THE_GRAMMAR + "ab01文é"), min_size=1, max_size=20),
    st.text(st.sampled_from("()[]{}'\",=: a"), min_size=300, max_size=900),
).filter(lambda text: bool(text.strip()))


def hydras_own(override: str) -> object:
    """What Hydra reads; the exception if it refuses."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException as error:
        return error


def refusal(overrides: list[str], several: bool = False) -> str | None:
    """The message that some words get; None: they are accepted."""
    try:
        as_grammar(overrides, several)
    except LxError as error:
        return str(error)
    return None


def check_value(text: str, several: bool) -> None:
    if (message := refusal([f"name={text}"], several)) is None:
        (parsed,) = parse(as_grammar([f"name={text}"], several))
        own = hydras_own(f"name={text}")
        if not isinstance(own, HydraException):
            assert repr(parsed.value()) == repr(own)
        elif isinstance(parsed.value(), str):
            assert parsed.value() == text
        return
    assert len(message) < 1000
    shown = message.partition("text: ")[2] or message.partition("one value: ")[2]
    if shown and '="..."' not in shown:
        (word,) = shlex.split(shown)
        (again,) = parse(as_grammar([word]))
        assert again.value() == text


QUICK = settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
THOROUGH = settings(QUICK, max_examples=500)


@QUICK
@given(TYPED, st.booleans())
def test_a_value_arrives_or_the_message_shows_how_to_type_it(text: str, several: bool) -> None:
    check_value(text, several)


@pytest.mark.slow
@THOROUGH
@given(TYPED, st.booleans())
def test_many_values_arrive_or_their_message_shows_how_to_type_them(text: str, several: bool) -> None:
    check_value(text, several)


@QUICK
@given(st.text(min_size=1, max_size=200))
def test_a_quoted_text_is_read_back(text: str) -> None:
    (word,) = shlex.split(for_shell("name", text))
    (parsed,) = parse([word])
    assert parsed.value() == text


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters=",:[]{}\"'\\$"), min_size=1)


@QUICK
@given(st.dictionaries(NAMES.filter(lambda name: not name.isascii()), st.floats(0, 9), min_size=1, max_size=4))
def test_names_of_classes_may_be_any(weights: dict[str, float]) -> None:
    typed = ", ".join(f"{name}: {weight}" for name, weight in weights.items())
    (parsed,) = parse(as_grammar([f"task.class_weights={{{typed}}}"]))
    assert parsed.value() == weights


KEYS = [
    "data.train",
    "data.text",
    "seed",
    "model",
    "optimizer.lr",
    "~logger",
    "+x",
    "task.class_weights",
    "trainer",
    "文",
]


@pytest.mark.slow
@THOROUGH
@given(st.lists(st.tuples(st.sampled_from(KEYS), TYPED), max_size=3))
def test_any_command_line_composes_or_gets_one_message(typed: list[tuple[str, str]]) -> None:
    try:
        lx.compose([f"{key}={value}" for key, value in typed])
    except LxError as error:
        message = str(error)
    else:
        message = ""
    assert len(message) < 1000


@pytest.mark.slow
@THOROUGH
@given(st.lists(TYPED, min_size=1, max_size=3))
def test_any_word_gets_a_short_message(words: list[str]) -> None:
    assert len(refusal(words) or "") < 1000
