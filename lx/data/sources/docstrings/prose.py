"""Documentation strings to plain prose: markup, code and parameter tables are taken out."""

from __future__ import annotations

import re
from inspect import cleandoc

_SPOKEN_DIRECTIVES = {"note", "warning", "warnings", "caution", "important", "tip", "hint", "seealso", "deprecated"}
_DIRECTIVE = re.compile(r"\.\. +([\w:-]+):: *(.*)")
_RULE = re.compile(r"([=\-~^\"'#*+_`.:<>])\1{2,}")
_TABLE_RULE = re.compile(r"[\s=+|:-]{4,}")
_SECTION = re.compile(
    r"(args?|arguments|keyword arg\w*|kwargs|parameters?|params|other parameters|attributes?|properties|"
    r"methods|returns?|yields?|receives?|raises?|warns?|examples?|notes?|see also|references?|shapes?|"
    r"inputs?|outputs?|usage|options|warnings?|todo):{0,2}",
    re.IGNORECASE,
)
_SIGNATURE = re.compile(r"[\w.]+\(.*\)?( *(->|=|:).*)?|[\w.]+\([^)]*")
_FIELD = re.compile(r":(\w+)[^:`]*: *(.*)|@(\w+)[^:]*: *(.*)")
_TYPED_ENTRY = re.compile(r"[*`\w][*`\w, .]* : .*")
_ENTRY = re.compile(r"[*`]{0,3}\w[\w.]*[*`]{0,3} *(\([^)]*\))?:(?: +(.*)|$)")
_BULLET = re.compile(r"([-*+•]|\(?\w[.)]|\d+[.)]) +")
_INLINE = [
    (re.compile(r":math:`[^`]*`|\$\$?[^$]{1,300}\$\$?"), " "),
    (re.compile(r"\[([^\]]*)\]\([^)]*\)"), r"\1"),
    (re.compile(r"`([^`<]*)<[^>`]*>`_{0,2}"), r"\1"),
    (re.compile(r"(?:https?|ftp)://\S+|www\.\S+|\S+@\S+\.\w+"), " "),
    (re.compile(r":[\w:+-]+:(?=`)"), ""),
    (re.compile(r"\[[\w#*]+\]_"), " "),
    (re.compile(r"`_{0,2}|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)|~(?=\w)|\|"), " "),
]


def prose(docstring: str) -> str:
    """The sentences of a documentation string, on one line.

    Left out: doctests and their output, literal and fenced blocks, directives other than spoken ones
    (notes, warnings), underlines, section titles, call signatures, ``name : type`` entries, tables,
    formulas and addresses. Of a parameter entry the description stays, of a role or link its words.
    """
    lines: list[str] = []
    hidden: int | None = None  # indent of the line that opened a literal block
    fenced = in_doctest = False
    for line in cleandoc(docstring).splitlines():
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text.startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced:
            continue
        elif not text:
            in_doctest = False
            lines.append("")
        elif in_doctest or text.startswith((">>>", "... ", "In [")):
            in_doctest = True
        elif hidden is not None and indent > hidden:
            continue
        elif _RULE.fullmatch(text) or _TABLE_RULE.fullmatch(text):
            hidden = None
            if lines and len(lines[-1].split()) <= 4:  # the title above its underline
                lines.pop()
        else:
            text, opens_literal = _spoken(text, indent)
            hidden = indent if opens_literal else None
            lines.append(text)
    spoken = " ".join(lines)
    for pattern, replacement in _INLINE:
        spoken = pattern.sub(replacement, spoken)
    return " ".join(spoken.split())


def _spoken(text: str, indent: int) -> tuple[str, bool]:
    """What a reader would say of one line, and whether it opens a block of code."""
    if text.startswith(".. "):
        directive = _DIRECTIVE.match(text)
        if directive and directive[1] in _SPOKEN_DIRECTIVES:
            return directive[2], False
        return "", True
    opens_literal = text.endswith("::")
    text = text[:-1] if opens_literal else text
    if _SECTION.fullmatch(text) or _SIGNATURE.fullmatch(text):
        return "", opens_literal
    if field := _FIELD.fullmatch(text):
        name = field[1] or field[3]
        return "" if name in {"type", "rtype"} else (field[2] or field[4] or ""), opens_literal
    if _TYPED_ENTRY.fullmatch(text) or (text.startswith("|") and text.endswith("|")):
        return "", opens_literal
    entry = _ENTRY.fullmatch(text)
    if entry and (indent or entry[1]):
        text = entry[2] or ""
    return _BULLET.sub("", text, count=1) if _BULLET.match(text) else text, opens_literal
