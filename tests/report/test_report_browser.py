"""A report in a real browser: what data may smuggle in runs nothing, and no request leaves the file."""

from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from lx.cli.main import main
from support.browser import browse, needs_browser
from support.report_runs import write_run

pytestmark = [pytest.mark.slow, needs_browser]


class Server(ThreadingHTTPServer):
    """Notes what is asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def planted(self) -> str:
        """What would show that it ran by the title, and by a request."""
        address = f"http://127.0.0.1:{self.server_port}"
        return f"<script>document.title = 'it ran'</script><img src='{address}/image.png'>"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("is_escaped", [True, False])
def test_nothing_from_data_runs_and_nothing_is_fetched(is_escaped: bool, server: Server, tmp_path: Path) -> None:
    """Neither where texts are escaped, as they are, nor if one was not: the page's policy forbids it."""
    run = write_run(tmp_path / "run", [server.planted, "b"])
    assert main(["report", str(run.path)]) == 0
    page = run.path / "report.html"
    if not is_escaped:
        html = page.read_text(encoding="utf-8")
        page.write_text(html.replace("<main", f"{server.planted}<main"), encoding="utf-8")
    assert "<title>run</title>" in browse(page, tmp_path)
    assert server.paths == []


def test_this_browser_runs_scripts_and_fetches(server: Server, tmp_path: Path) -> None:
    """Else the test above could not fail."""
    page = tmp_path / "page.html"
    page.write_text(f"<title>x</title>{server.planted}", encoding="utf-8")
    assert "<title>it ran</title>" in browse(page, tmp_path)
    assert server.paths == ["/image.png"]
