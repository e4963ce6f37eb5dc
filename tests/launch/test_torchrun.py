"""How the launcher of ranks finds its own address."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lx.launch.torchrun import Outcome, start_ranks
from lx.run.directory import RunDirectory

Address = Callable[[str | None, int], str | None]


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Address:
    """What this machine tells the others of itself, for an endpoint and a number of nodes; nothing is started."""
    told = []

    def launch(config: Any, entrypoint: str) -> Callable[..., None]:
        told.append(config.local_addr)
        return lambda *command: None

    def address(endpoint: str | None, nodes: int) -> str | None:
        settings = {"num_nodes": nodes, "rdzv_endpoint": endpoint, "devices": 1, "accelerator": "cpu", "threads": 1}
        assert start_ranks(RunDirectory(tmp_path), settings, []) == Outcome(0)
        return told.pop()

    monkeypatch.setattr("lx.launch.torchrun.elastic_launch", launch)
    monkeypatch.setattr(os, "environ", dict(os.environ))  # start_ranks sets it for the ranks to come
    return address


@pytest.mark.parametrize("endpoint", ["127.0.0.1:29500", "[127.0.0.1]:29500", "localhost:0"])
def test_the_address_on_the_way_to_the_meeting_point(endpoint: str, address: Address) -> None:
    """And not the machine's name, which need not be known to anybody."""
    assert address(endpoint, 2) in ("127.0.0.1", "::1")


def test_a_name_that_leads_its_machine_to_itself_is_told_as_it_is(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Debian maps it, 127.0.1.1: an address that would lead the others to themselves."""
    found = [(socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.1.1", 29500))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *args, **options: found)
    assert address("node1:29500", 2) == "node1"


def test_one_machine_meets_at_itself(address: Address) -> None:
    assert address(None, 1) in ("127.0.0.1", "::1")


@pytest.mark.parametrize("endpoint", ["nowhere.invalid:29500", "no-port", ":x"])
def test_torchrun_says_what_is_wrong_with_an_endpoint(endpoint: str, address: Address) -> None:
    assert address(endpoint, 2) is None
