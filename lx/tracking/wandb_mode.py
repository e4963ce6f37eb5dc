"""Whether a run is recorded online, decided from files and the environment alone.

Nothing here imports wandb, uses the network or prompts. Variables and files are read in the order of wandb's own client
(https://docs.wandb.ai/guides/track/environment-variables).
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

# "run" and "dryrun" are W&B's old names of "online" and "offline".
_MODES: dict[str, Mode] = {
    **{"online": "online", "offline": "offline", "disabled": "disabled"},
    **{"run": "online", "dryrun": "offline"},
}


def choose_mode(configured: str) -> tuple[Mode, str]:
    """Choose the W&B mode, and return the reason too, for a message.

    Args:
        configured: ``logger.wandb.mode``. ``auto`` takes the mode of WANDB_MODE, else that of wandb's settings file
            (which ``wandb offline`` writes), else ``online`` if there are credentials, else ``offline``.

    Raises:
        LxError: The mode is unknown, or it is ``online`` and there are no credentials.
    """
    settings = {"logger.wandb.mode": configured, "WANDB_MODE": os.environ.get("WANDB_MODE", "auto")}
    for key, value in settings.items():
        if value != "auto":
            return _checked(value, key), f"{key}={value}"
    from_file = _MODES.get(read_settings().get("mode", "online"), "online")
    if from_file != "online":
        return from_file, f"wandb's settings file says {from_file}"
    if has_credentials():
        return "online", "credentials found"
    return "offline", "no W&B credentials found"


def has_credentials() -> bool:
    """Whether wandb would find a key: in the environment, its settings files, or the netrc file."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    return bool(read_settings().get("api_key")) or _netrc_has(urlsplit(base_url()).netloc)


def base_url() -> str:
    """Return the address of the W&B server."""
    return os.environ.get("WANDB_BASE_URL") or read_settings().get("base_url") or _DEFAULT_URL


def read_settings() -> dict[str, str]:
    """Read wandb's settings: the user's, overridden by the working directory's. Unreadable files count as empty."""
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
