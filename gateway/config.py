"""Settings of the server, read in one place: arguments, else `TIDEGATE_*`, else the default.

A setting `x` is the environment variable `TIDEGATE_X`; the key of a hosted model is
`OPENAI_API_KEY`, the name that it has everywhere. Sizes are bytes, and times seconds unless the
name says otherwise.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["LogLevel", "Role", "Settings", "Synchronous", "check_engine", "is_postgres", "place"]

Synchronous = Literal["full", "normal"]
LogLevel = Literal["debug", "info", "warning", "error"]
Role = Literal["all", "edge", "worker"]

KIB = 1024


def _words(value: object) -> object:
    """Read a list as it is written in the environment: `a.example, b.example`."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return value


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


def is_postgres(engine: str) -> bool:
    """Say whether a setting `engine` is the URL of a Postgres database."""
    return engine.startswith(("postgresql://", "postgres://"))


_HOSTS = re.compile(r"((\[[0-9a-fA-F:.]+\]|[^\[\]:,@]*)(:[0-9]+)?(,|$))*")


def check_engine(value: str) -> str:
    """Return a setting `engine`, if it is one.

    Raises:
        ValueError: If not. It says nothing of the value: there may be a password inside.
    """
    if value in {"sqlite", "memory"}:
        return value
    if not is_postgres(value):
        raise ValueError(
            "has to be sqlite, memory, or postgresql://user:password@host:port/database"
        )
    try:
        parts = urlsplit(value)
    except ValueError:
        raise ValueError("is no URL that can be read") from None
    beyond = parts.path + parts.query + parts.fragment
    if "@" in beyond or parts.fragment or not _HOSTS.fullmatch(parts.netloc.rpartition("@")[2]):
        raise ValueError(
            "is no URL that can be read; in a password, characters like @ : / ? # % have to be written"
            " as %40 %3A %2F %3F %23 %25"
        )
    return value


def _direct(value: str | None) -> str | None:
    if value is not None and not is_postgres(value):
        raise ValueError("has to be postgresql://user:password@host:port/database")
    return None if value is None else check_engine(value)


def place(url: str) -> str:
    """Return where a Postgres database is, `host:port/database`: all of its URL that is no secret."""
    before, _, query = url.partition("://")[2].partition("?")
    if "@" in query:
        return "the database"  # that may be a part of a password
    who, _, where = before.rpartition("@")
    hosts, _, database = where.partition("/")
    options = parse_qs(query)
    hosts = hosts or options.get("host", ["localhost"])[0]
    port = options.get("port", ["5432"])[0]
    named = [
        host if re.search(r":[0-9]+$", host) else f"{host}:{port}" for host in hosts.split(",")
    ]
    database = database or options.get("dbname", [who.partition(":")[0]])[0]
    return unquote(f"{','.join(named)}/{database}" if database else ",".join(named))


class Settings(BaseSettings):
    """What the server is told when it starts. Never changes afterwards."""

    model_config = SettingsConfigDict(
        env_prefix="TIDEGATE_",
        env_ignore_empty=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    host: str = "127.0.0.1"
    """Address to listen on. Beyond the loopback there is no authentication yet."""

    port: int = Field(default=8080, ge=0, le=65_535)
    """Port to listen on; 0 lets the system choose."""

    data: Path = Path("./data")
    """Directory of the SQLite engine; made if it is not there."""

    engine: Annotated[str, AfterValidator(check_engine)] = Field(default="sqlite", repr=False)
    """Where logs are kept: `sqlite`, or the URL of a Postgres database, which several servers may share;
    `memory` forgets them when the server ends."""

    engine_direct: Annotated[str | None, AfterValidator(_direct)] = Field(default=None, repr=False)
    """Postgres: URL of the database itself, where `engine` is that of a PgBouncer."""

    engine_pool: int = Field(default=8, ge=1)
    """Postgres: how many connections a server keeps for what is short, at most. It has two more, and
    those that append."""

    engine_writers: int = Field(default=2, ge=1)
    """Postgres: how many connections of a server append. Each does all that waits with one commit."""

    engine_wait_s: float = Field(default=10.0, ge=0)
    """Postgres: how long a server that starts tries to reach its database."""

    migrate: bool = True
    """Postgres: whether a server that starts brings an older schema up to date; `tidegate migrate` does it
    else."""

    synchronous: Synchronous = "full"
    """SQLite: `full` survives power loss; `normal` is faster and may lose the last moments then."""

    model: str | None = None
    """Model of the agent `assistant`; None is the local one, or the default of the endpoint."""

    openai_base_url: str | None = None
    """Address of an OpenAI-compatible endpoint; `assistant` uses it instead of the local model."""

    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    """Key of that endpoint; set alone, it means OpenAI's own."""

    lease_s: float = Field(default=20.0, ge=1)
    """How long a run stays with a process of which nothing is heard; then another one takes it over.
    A process is heard four times in that time."""

    role: Role = "all"
    """What a server does that shares its database with others: `edge` serves clients and leaves runs to
    others, `worker` does runs and serves nobody, `all` does both."""

    max_runs: int = Field(default=0, ge=0)
    """Runs that are at work in this server at once; more wait, and any server with room takes what has
    waited longest. 0: 256 where several servers share the database, and no limit where none do."""

    log_level: LogLevel = "info"
    """Least severe line that is logged."""

    keep_events: int = Field(default=2000, ge=0)
    """So many of a session's last events stay readable, however old; 0 keeps all of every session."""

    keep_hours: float = Field(default=24.0, ge=0)
    """And so do those that are younger, however many; 0 leaves it to the number alone (hours)."""

    forget_sessions_after_days: float = Field(default=0.0, ge=0)
    """A session to which nothing was added for so long is deleted; 0: never (days)."""

    sweep_s: float = Field(default=60.0, gt=0)
    """How often what need not be kept is looked for."""

    delta_interval_ms: float = Field(default=20.0, ge=0, le=1000)
    """Text deltas that arrive within this time become one event; 0 keeps each (milliseconds)."""

    allowed_hosts: Words = ()
    """Names in `Host` that are taken besides the server's own, separated by commas."""

    allowed_origins: Words = ()
    """Origins of browser requests that are taken besides the server's own."""

    keepalive_s: float = Field(default=15.0, gt=0)
    """A quiet SSE stream gets a comment this often; proxies cut at 60 s, browsers never do."""

    write_timeout_s: float = Field(default=10.0, gt=0)
    """A client that takes no byte for this long is cut off; it resumes with its cursor."""

    write_buffer_bytes: int = Field(default=256 * KIB, ge=4 * KIB)
    """What the server holds for one client that reads slowly, beside the socket's own buffer."""

    max_body_bytes: int = Field(default=256 * KIB, ge=KIB)
    """Largest command, over HTTP and WebSocket."""

    body_timeout_s: float = Field(default=30.0, gt=0)
    """How long the body of a request may take to come."""

    command_timeout_s: float = Field(default=10.0, gt=0)
    """How long a command may wait for a store that does not answer; then its client is told to send it
    again, and gets the answer of the first one, which goes on."""

    idle_timeout_s: float = Field(default=75.0, gt=0)
    """A connection without a whole request for this long is closed; proxies keep theirs for 60 s."""

    max_connections: int = Field(default=10_000, ge=1)
    """Connections that are open at once; the process may have to be allowed as many files."""

    max_streams: int = Field(default=9_000, ge=1)
    """Of these, streams and WebSockets; the others are for commands."""

    max_history_bytes: int = Field(default=8 * 1024 * KIB, ge=KIB)
    """Largest request of a protocol whose clients send their whole conversation with each."""

    max_subscriptions: int = Field(default=512, ge=1)
    """Sessions that one WebSocket, or one client's stream, may listen to."""

    ws_heartbeat_s: float = Field(default=25.0, gt=0)
    """A quiet peer is asked this often whether it is there, and given up if it does not answer for half
    the time: by pings on a WebSocket, by the kernel on any other connection."""

    shutdown_timeout_s: float = Field(default=10.0, gt=0)
    """What runs and streams get, all in all, to end in order when the server stops."""

    drain_delay_s: float = Field(default=0.0, ge=0)
    """How long a server that is to stop goes on as before, but for `/readyz`: so that a load balancer
    notices, and sends nobody here any more. Comes before `shutdown_timeout_s`."""

    drain_runs_s: float = Field(default=5.0, ge=0)
    """Of `shutdown_timeout_s`, what runs get at most to come to the end of a step; what is still at
    work then is cut, and done anew by the next server."""

    drain_spread_s: float = Field(default=5.0, ge=0)
    """Of `shutdown_timeout_s`, over how long streams are ended at most, so that their clients do not
    come back all at once. A thousand take a second of it, a few no time."""
