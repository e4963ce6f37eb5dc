"""Draw a command as it looks on a terminal: run it in a pseudo-terminal, and export what stands there as SVG.

python tests/benchmarks/picture.py .github/run.svg lx train model=tiny trainer.max_steps=60
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 100


def output_of(command: list[str]) -> str:
    """Run a command in a pseudo-terminal, and return what it wrote, escape sequences included."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES="200")
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 200, COLUMNS, 0, 0))
    chunks = []
    try:
        while chunk := os.read(terminal, 65536):
            chunks.append(chunk)
    except OSError:  # the end of the other side
        pass
    os.waitpid(pid, 0)
    return b"".join(chunks).decode(errors="replace")


def screen(output: str) -> str:
    """Play back what progress bars do: carriage return, lines erased, the cursor moved up."""
    lines, row = [""], 0
    for token in re.findall(
        r"\x1b\[\d*A|\x1b\[2K|\x1b\[\?\d+[hl]|\x1b\[0?K|\r|\n|[^\r\n\x1b]+|\x1b\[[\d;]*m|\x1b.", output
    ):
        if token == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif re.fullmatch(r"\x1b\[\d*A", token):
            row = max(0, row - int(token[2:-1] or 1))
        elif token == "\x1b[2K":
            lines[row] = ""
        elif re.fullmatch(r"\x1b\[[\d;]*m", token) or token[0] not in "\x1b\r":
            lines[row] += token
    return "\n".join(line.rstrip() for line in lines).strip("\n")


def main() -> None:
    path, *command = sys.argv[1:]
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(f"[bold green]$[/] {' '.join(command)}", highlight=False)
    console.print(Text.from_ansi(screen(output_of(command))))
    picture = console.export_svg(title="lx")
    local_fonts = re.sub(r",\s*url\([^)]*\) format\([^)]*\)", "", picture)  # a picture in a page may load none
    Path(path).write_text(local_fonts, encoding="utf-8")


if __name__ == "__main__":
    main()
