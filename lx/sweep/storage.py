"""Where the study of a sweep lives: in its journal, or in a database that an environment variable names.

The address of a database may hold a password, so it stays in the environment: it is written nowhere, and the processes
that train do not inherit it.
"""

from __future__ import annotations

import os
import secrets
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.storages import BaseStorage

from lx.errors import LxError, TrainingError, first_line
from lx.sweep.journal import open_journal
from lx.system.files import as_argument
from lx.system.processes import SWEEP_STORAGE


def new_study_name() -> str | None:
    """Return a unique name for the study of a new sweep; None if the environment names no database."""
    return f"lx-{secrets.token_hex(6)}" if SWEEP_STORAGE in os.environ else None


def open_storage(directory: Path, study: str | None) -> BaseStorage:
    """Open the storage of a sweep.

    Args:
        directory: of the sweep.
        study: the name of its study in the database; None: it lives in the journal.

    Raises:
        LxError: the database cannot be opened.
    """
    if study is None:
        return open_journal(directory / "journal.log")
    address = os.environ.get(SWEEP_STORAGE)
    if not address:
        raise LxError(f"the study of {directory} lives in a database: set {SWEEP_STORAGE} to its address")
    return _open_database(address)


def _open_database(address: str) -> BaseStorage:
    from optuna.exceptions import OptunaError
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        make_url(address)
        return RDBStorage(address, engine_kwargs={"pool_pre_ping": True})  # a connection may have been closed
    except ImportError as error:
        raise LxError(f"{SWEEP_STORAGE}: the driver of the database is missing: pip install 'lx[cluster]'") from error
    except (ArgumentError, ValueError):
        raise LxError(f"{SWEEP_STORAGE} must be an address such as postgresql+psycopg://user@host/database") from None
    except (SQLAlchemyError, OptunaError) as error:
        raise LxError(f"{SWEEP_STORAGE}: {_reason(error)}") from None


@contextmanager
def reporting_loss(directory: Path) -> Iterator[None]:
    """Turn the loss of a sweep's database while the block runs into one message.

    Raises:
        TrainingError: the database is lost.
    """
    if SWEEP_STORAGE not in os.environ:
        yield
        return
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        raise TrainingError(
            f"the database of the sweep is lost: {_reason(error)}; what ran here has saved and stopped; to go on when "
            f"the database is back: lx sweep resume {shlex.quote(as_argument(directory))}"
        ) from None


def _reason(error: Exception) -> str:
    """What the database's driver says, without the password."""
    from sqlalchemy.engine import make_url

    cause = error.__cause__ or error
    reason = first_line(getattr(cause, "orig", None) or cause)
    password = make_url(os.environ[SWEEP_STORAGE]).password
    return reason.replace(str(password), "***") if password else reason
