from __future__ import annotations

from pathlib import Path

import pytest

from lx.errors import LxError
from lx.tracking.wandb import WandbTracker
from lx.tracking.wandb_mode import choose_mode, has_credentials

NETRC = "machine api.wandb.ai\n  login user\n  password secret\n"
OTHER_NETRC = NETRC.replace("api.wandb.ai", "example.org")


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a working directory without any trace of wandb."""
    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "MODE", "BASE_URL", "CONFIG_DIR"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def place(home: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)


@pytest.mark.parametrize(
    ("files", "environment", "expected"),
    [
        ({}, {}, False),
        ({}, {"WANDB_API_KEY": "k"}, True),
        ({}, {"WANDB_API_KEY": ""}, False),
        ({}, {"WANDB_IDENTITY_TOKEN_FILE": "/token"}, True),
        ({".netrc": NETRC}, {}, True),
        ({"_netrc": NETRC}, {}, True),
        ({".netrc": OTHER_NETRC}, {}, False),
        ({".netrc": NETRC.replace("secret", '""')}, {}, False),
        ({".netrc": "machine"}, {}, False),
        ({".netrc": OTHER_NETRC}, {"WANDB_BASE_URL": "https://example.org"}, True),
        ({".netrc": NETRC}, {"WANDB_BASE_URL": "https://example.org"}, False),
        (
            {".netrc": OTHER_NETRC, ".config/wandb/settings": "[default]\nbase_url=https://example.org"},
            {},
            True,
        ),
        ({"keys": NETRC}, {"NETRC": "~/keys"}, True),
        ({".netrc": NETRC}, {"NETRC": "~/missing"}, False),
        ({".config/wandb/settings": "[default]\napi_key = k"}, {}, True),
        ({"work/wandb/settings": "[default]\napi_key = k%"}, {}, True),
        ({"etc/settings": "[default]\napi_key = k"}, {"WANDB_CONFIG_DIR": "~/etc"}, True),
        ({".config/wandb/settings": "[other]\napi_key = k"}, {}, False),
        ({".config/wandb/settings": "no settings file"}, {}, False),
    ],
)
def test_credentials(
    empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    environment: dict[str, str],
    expected: bool,
) -> None:
    place(empty_home, files)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert has_credentials() is expected


@pytest.mark.parametrize(
    ("configured", "variable", "settings", "key", "expected"),
    [
        ("auto", None, None, False, "offline"),
        ("auto", None, None, True, "online"),
        ("auto", "offline", None, True, "offline"),
        ("auto", "dryrun", None, True, "offline"),
        ("auto", "disabled", None, True, "disabled"),
        ("auto", "online", None, True, "online"),
        ("auto", None, "offline", True, "offline"),
        ("auto", None, "disabled", True, "disabled"),
        ("auto", None, "online", False, "offline"),
        ("auto", "online", "offline", True, "online"),
        ("offline", "online", None, True, "offline"),
        ("disabled", None, None, False, "disabled"),
        ("online", "offline", None, True, "online"),
    ],
)
def test_mode(
    empty_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    configured: str,
    variable: str | None,
    settings: str | None,
    key: bool,
    expected: str,
) -> None:
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    if settings:
        place(empty_home, {".config/wandb/settings": f"[default]\nmode = {settings}"})
    if key:
        monkeypatch.setenv("WANDB_API_KEY", "k")
    assert choose_mode(configured)[0] == expected


@pytest.mark.parametrize(
    ("configured", "variable", "message"),
    [
        (
            "onlin",
            None,
            "logger.wandb.mode: 'onlin' is no W&B mode. Choose auto, online, offline or disabled",
        ),
        ("auto", "of", "WANDB_MODE: 'of' is no W&B mode"),
        (
            "online",
            None,
            "logger.wandb.mode: online needs W&B credentials and none were found. Run `wandb login`",
        ),
        ("auto", "online", "WANDB_MODE: online needs W&B credentials"),
    ],
)
def test_bad_mode(monkeypatch: pytest.MonkeyPatch, configured: str, variable: str | None, message: str) -> None:
    if variable:
        monkeypatch.setenv("WANDB_MODE", variable)
    with pytest.raises(LxError, match=message):
        choose_mode(configured)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"project": "a/b"}, "logger.wandb.project: Invalid project name 'a/b': cannot contain characters"),
        ({"project": None, "tags": ["a", ""]}, "logger.wandb.tags: Value error, Tag at index 1 is empty"),
    ],
)
def test_names_that_the_client_does_not_take_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(LxError, match=message):
        WandbTracker.check_settings({"mode": "offline", **settings})
    WandbTracker.check_settings({"mode": "disabled", **settings})
    WandbTracker.check_settings({"mode": "offline", "project": "a b", "tags": ["a", "a"]})
