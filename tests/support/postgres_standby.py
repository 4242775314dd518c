"""Standbys: copies of a cluster that follow it, made and promoted as operators do it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from tests.support.postgres import USER, Cluster

__all__ = ["Standby", "caught_up", "followers", "until"]

LIMIT = 30.0
"""Seconds that anything here may take, on a busy machine."""


class Standby(Cluster):
    """A cluster that follows another one, until it is promoted."""

    @classmethod
    def following(
        cls,
        primary: Cluster,
        name: str,
        *,
        through: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Standby:
        """Copy a running cluster with `pg_basebackup`, and start the copy.

        Args:
            primary: What it follows.
            name: What the primary calls it, in `synchronous_standby_names` for one.
            through: The port at which it reaches the primary, if that is a proxy's.
            settings: Beside the usual ones.
        """
        source = (
            f"host=127.0.0.1 port={through or primary.port} user={USER} application_name={name}"
        )
        standby = cls(
            {
                "primary_conninfo": source,
                "wal_retrieve_retry_interval": "100ms",  # it is back soon after it was away
                **(settings or {}),
            }
        )
        try:
            arguments = ("-D", standby.data, "-X", "stream", "-c", "fast", "--no-sync", "-R")
            standby.run("pg_basebackup", "-d", primary.url(), *arguments)
            standby.start()
            until(lambda: name in followers(primary), f"{name} does not follow")
        except BaseException:
            standby.remove()
            raise
        return standby

    def promote(self) -> None:
        """Make it a primary of its own; it has all that it has received."""
        assert self.psql("SELECT pg_promote()") == "t", self.log.read_text()


def followers(primary: Cluster) -> list[str]:
    """Return the names of the standbys that follow a cluster now."""
    asked = "SELECT application_name FROM pg_stat_replication WHERE state = 'streaming'"
    return primary.psql(asked).splitlines()


def caught_up(primary: Cluster) -> bool:
    """Say whether all standbys of a cluster have received all that it has written."""
    asked = (
        "SELECT count(*), count(*) FILTER (WHERE flush_lsn >= pg_current_wal_lsn())"
        " FROM pg_stat_replication"
    )
    there, up_to_date = primary.psql(asked).split("|")
    return there == up_to_date != "0"


def until(holds: Callable[[], bool], what: str) -> None:
    """Ask again and again until something holds."""
    deadline = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
