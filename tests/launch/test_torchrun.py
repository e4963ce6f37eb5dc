"""How the launcher of ranks finds its own address."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lx.launch.torchrun import _launch_config
from lx.run.directory import RunDirectory


def address(endpoint: str | None, nodes: int, folder: Path) -> str | None:
    """What this machine tells the others of itself."""
    settings = {"num_nodes": nodes, "rdzv_endpoint": endpoint}
    return _launch_config(RunDirectory(folder), settings, devices=1).local_addr


@pytest.mark.parametrize("endpoint", ["127.0.0.1:29500", "[127.0.0.1]:29500", "localhost:0"])
def test_the_address_on_the_way_to_the_meeting_point(endpoint: str, tmp_path: Path) -> None:
    """And not the machine's name, which need not be known to anybody."""
    assert address(endpoint, 2, tmp_path) in ("127.0.0.1", "::1")


def test_a_name_that_leads_its_machine_to_itself_is_told_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian maps it, 127.0.1.1: an address that would lead the others to themselves."""
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.1.1", 29500))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: found)
    assert address("node1:29500", 2, tmp_path) == "node1"


def test_one_machine_meets_at_itself(tmp_path: Path) -> None:
    assert address(None, 1, tmp_path) in ("127.0.0.1", "::1")


@pytest.mark.parametrize("endpoint", ["nowhere.invalid:29500", "no-port", ":x"])
def test_torchrun_says_what_is_wrong_with_an_endpoint(endpoint: str, tmp_path: Path) -> None:
    assert address(endpoint, 2, tmp_path) is None
