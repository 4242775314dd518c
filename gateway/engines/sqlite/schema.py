"""The database file: opened, recognised as ours, brought to the schema of this version.

`PRAGMA user_version` counts the steps done (docs/adr/0007-schema-migrations.md).
"""

from __future__ import annotations

import sqlite3
from importlib import resources
from pathlib import Path

from gateway.errors import StartupRefused

__all__ = ["has_wal_reset_bug", "migrate", "open_reader", "open_writer"]

_APPLICATION_ID = 0x54494445
"""`TIDE` in ASCII: marks the file as ours in SQLite's own header."""


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Say whether this SQLite can lose commits when two connections write and checkpoint at once.

    Since 3.7.0, fixed in 3.51.3, and in 3.44.6 and 3.50.7 for those who stayed with these.
    """
    if version[:2] == (3, 44):
        return version < (3, 44, 6)
    if version[:2] == (3, 50):
        return version < (3, 50, 7)
    return (3, 7, 0) <= version < (3, 51, 3)


_OLDEST = (3, 37, 0)
"""The first SQLite with STRICT tables."""


def open_writer(path: Path, *, synchronous: str) -> sqlite3.Connection:
    """Open the one connection that writes and checkpoints, making or migrating the file.

    It may be handed to another thread, but only one may use it.

    Raises:
        StartupRefused: If the file cannot be used, with the reason.
    """
    if sqlite3.sqlite_version_info < _OLDEST:
        raise StartupRefused(f"SQLite {sqlite3.sqlite_version} is too old, 3.37 is needed")
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db, path, synchronous)
        except BaseException:
            db.close()
            raise
    except sqlite3.OperationalError as error:
        raise StartupRefused(f"cannot open the database {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise StartupRefused(f"{path} is damaged or not a database: {error}") from error
    return db


def _prepare(db: sqlite3.Connection, path: Path, synchronous: str) -> None:
    _recognise(db, path)
    (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StartupRefused(f"the file system of {path} does not support SQLite's write-ahead log")
    db.execute(f"PRAGMA synchronous = {synchronous}")
    migrate(db, path)


def _recognise(db: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that another program made; mark a new one as ours."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    if application_id == _APPLICATION_ID:
        return
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application_id or tables:
        raise StartupRefused(f"{path} is the database of another program")
    db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Do the steps that are missing, each in a transaction of its own.

    Raises:
        StartupRefused: If a newer version of the server has changed the schema already.
    """
    steps = _steps()
    (done,) = db.execute("PRAGMA user_version").fetchone()
    if done > len(steps):
        raise StartupRefused(
            f"{path} was made by a newer version of the server "
            f"(schema {done}, this version knows {len(steps)})"
        )
    for number, script in enumerate(steps[done:], done + 1):
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _steps() -> list[str]:
    folder = resources.files("gateway.engines.sqlite.migrations")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in files]


def open_reader(path: Path) -> sqlite3.Connection:
    """Open a connection that cannot write. Any thread may use it, one at a time."""
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
    )
