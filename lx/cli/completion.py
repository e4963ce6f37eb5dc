"""``lx completion``: complete commands and settings with the tab key, by ``eval "$(lx completion bash)"``."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

from lx.cli.main import VERBS
from lx.config.session import CONFIG_NAME, hydra_session
from lx.errors import LxError
from lx.system.output import DataStream

SCRIPTS = {
    # Where = separates words, as it does unless a person has changed it, bash takes what stands behind it for the word.
    # Without an answer bash completes the names of files.
    "bash": """\
_lx_complete() {
  local line=${COMP_LINE:0:COMP_POINT} prefix= IFS=$'\\n'
  local word=${line##* }
  [[ $COMP_WORDBREAKS == *=* && $word == *=* ]] && prefix=${word%"${word##*=}"}
  COMPREPLY=($(lx completion query "$line"))
  COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  if [[ ${#COMPREPLY[@]} == 0 && $word == *=* && -z $prefix ]]; then
    COMPREPLY=($(compgen -P "${word%%=*}=" -f -- "${word#*=}"))
  fi
}
complete -o nospace -o default -F _lx_complete lx
""",
    "zsh": """\
_lx_complete() {
  local -a words=(${(f)"$(lx completion query "$LBUFFER")"})
  if (( $#words )); then compadd -S '' -- $words; else compset -P '*='; _files; fi
}
compdef _lx_complete lx
""",
    "fish": """\
complete -c lx -a '(lx completion query (commandline -cp))'
""",
}


def run(arguments: list[str]) -> int:
    """Print a shell's completion script, or answer the query that the script makes: ``query LINE``."""
    if arguments[:1] == ["query"]:
        with suppress(Exception):  # a shell would show the message in the middle of the line
            print("".join(f"{word}\n" for word in candidates(" ".join(arguments[1:]))), end="")
        return 0
    if arguments[:1] in (["--help"], ["-h"]):
        DataStream().write('usage: lx completion bash|zsh|fish\n\nPrints a script: eval "$(lx completion bash)"\n')
        return 0
    shell = arguments[0] if arguments else "bash"
    if shell not in SCRIPTS:
        raise LxError(f"no completion for {shell!r}: there is bash, zsh and fish")
    DataStream().write(SCRIPTS[shell])
    return 0


def candidates(line: str) -> list[str]:
    """Return what may follow on a command line that begins with ``lx``."""
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        start = words[1] if len(words) == 2 else ""
        return [verb.name for verb in VERBS if verb.name.startswith(start)]
    verb = next((verb for verb in VERBS if verb.name == words[1]), None)
    last = "" if line.endswith(" ") else words[-1]
    if last.startswith("-") and verb is not None and (parser := verb.parser()) is not None:
        return [option for option in parser.options() if option.startswith(last)]
    if verb is None or not verb.composes:
        return []
    from hydra._internal.core_plugins.bash_completion import BashCompletion

    settings = [word for word in words[2:] if "=" in word and not word.startswith("-")]
    options = dict(pairwise(words))
    with hydra_session(options.get("--config-dir")) as hydra:
        query = " ".join(settings if "=" in last else [*settings, last])
        completions = BashCompletion(hydra.config_loader)._query(config_name=CONFIG_NAME, line=query)
    hidden = ("hydra", "_")
    return [word for word in completions if not word.rpartition("=")[2].rpartition("/")[2].startswith(hidden)]
