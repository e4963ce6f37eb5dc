"""``lx completion``: complete commands and settings with the tab key, by ``eval "$(lx completion bash)"``."""

from __future__ import annotations

import sys
from itertools import pairwise

from lx.cli.main import VERBS
from lx.config.session import CONFIG_NAME, hydra_session
from lx.errors import LxError

_SCRIPTS = {
    "bash": """\
_lx_complete() {
  COMPREPLY=($(compgen -o nospace -o default -W "$(lx completion query "$COMP_LINE")" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _lx_complete lx
""",
    "zsh": """\
_lx_complete() { compadd -S '' -- ${=$(lx completion query "$BUFFER")} || _files }
compdef _lx_complete lx
""",
    "fish": """\
complete -c lx -a '(lx completion query (commandline -cp) | string split " ")'
""",
}


def run(arguments: list[str]) -> int:
    """Print a shell's completion script, or answer the query that the script makes: ``query LINE``."""
    if arguments[:1] == ["query"]:
        print(" ".join(candidates(" ".join(arguments[1:]))))
        return 0
    shell = arguments[0] if arguments else "bash"
    if shell not in _SCRIPTS:
        raise LxError(f"no completion for {shell!r}: there is bash, zsh and fish")
    sys.stdout.write(_SCRIPTS[shell])
    return 0


def candidates(line: str) -> list[str]:
    """Return what may follow on a command line that begins with ``lx``."""
    words = line.split()
    if len(words) < 2 or (len(words) == 2 and not line.endswith(" ")):
        start = words[1] if len(words) == 2 else ""
        return [verb.name for verb in VERBS if verb.name.startswith(start)]
    if words[1] not in [verb.name for verb in VERBS if verb.composes]:
        return []
    from hydra._internal.core_plugins.bash_completion import BashCompletion

    settings = line.partition(words[1])[2].removeprefix(" ")
    options = dict(pairwise(words))
    with hydra_session(options.get("--config-dir")) as hydra:
        completions = BashCompletion(hydra.config_loader)._query(config_name=CONFIG_NAME, line=settings)
    hidden = ("hydra", "_")
    return [word for word in completions if not word.rpartition("=")[2].rpartition("/")[2].startswith(hidden)]
