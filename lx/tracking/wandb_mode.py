"""Whether a run is recorded online, decided from files and the environment alone.

Nothing here imports wandb, asks the network or prompts. The places looked at, and their order, are
those of wandb's own client (https://docs.wandb.ai/guides/track/environment-variables).
"""

from __future__ import annotations

import configparser
import netrc
import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lx.errors import LxError

_DEFAULT_URL = "https://api.wandb.ai"
Mode = Literal["online", "offline", "disabled"]

# The last two are old names of the first two.
_MODES: dict[str, Mode] = {
    "online": "online",
    "offline": "offline",
    "disabled": "disabled",
    "run": "online",
    "dryrun": "offline",
}


def choose_mode(configured: str) -> tuple[Mode, str]:
    """Choose the W&B mode and say why.

    Args:
        configured: ``logger.wandb.mode``. ``auto`` asks WANDB_MODE, then wandb's settings file (where
            ``wandb offline`` leaves its mark), then takes ``online`` if there are credentials.

    Returns:
        ``online``, ``offline`` or ``disabled``; and the reason, for a message.

    Raises:
        LxError: No such mode, or ``online`` was asked for and there are no credentials.
    """
    asked = {"logger.wandb.mode": configured, "WANDB_MODE": os.environ.get("WANDB_MODE", "auto")}
    for source, value in asked.items():
        if value != "auto":
            return _checked(value, source), f"{source}={value}"
    remembered = _MODES.get(read_settings().get("mode", "online"), "online")
    if remembered != "online":
        return remembered, f"wandb's settings file says {remembered}"
    if has_credentials():
        return "online", "credentials found"
    return "offline", "no W&B credentials found"


def has_credentials() -> bool:
    """Whether wandb would find a key: in the environment, its settings files, or the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = read_settings()
    if settings.get("api_key"):
        return True
    url = os.environ.get("WANDB_BASE_URL") or settings.get("base_url") or _DEFAULT_URL
    return _netrc_has(urlsplit(url).netloc)


def read_settings() -> dict[str, str]:
    """Read wandb's settings: those of the user, overridden by those of the working directory.

    A file that cannot be read counts as empty.
    """
    user = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb").expanduser() / "settings"
    parser = configparser.ConfigParser(interpolation=None)
    for path in (user, Path("wandb", "settings")):
        try:
            parser.read(path, encoding="utf-8")
        except (OSError, UnicodeDecodeError, configparser.Error):
            continue
    return dict(parser["default"]) if parser.has_section("default") else {}


def _checked(value: str, source: str) -> Mode:
    if value not in _MODES:
        raise LxError(f"{source}: {value!r} is no W&B mode. Choose auto, online, offline or disabled.")
    mode = _MODES[value]
    if mode == "online" and not has_credentials():
        raise LxError(
            f"{source}: online needs W&B credentials and none were found. Run `wandb login`, set "
            "WANDB_API_KEY, or use logger.wandb.mode=offline."
        )
    return mode


def _netrc_has(host: str) -> bool:
    if custom := os.environ.get("NETRC"):
        path = Path(custom).expanduser()
    else:
        candidates = [Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()]
        path = next((candidate for candidate in candidates if candidate.exists()), candidates[0])
    try:
        entry = netrc.netrc(str(path)).authenticators(host)
    except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
        return False
    return bool(entry and entry[2])
