"""The harness itself: standbys keep what was acknowledged, or lose it, as the tests need it."""

from __future__ import annotations

import asyncio

from tests.faults.proxy import running_proxy
from tests.support.postgres import Cluster
from tests.support.postgres_standby import Standby, caught_up, until


def test_a_synchronous_standby_has_what_was_acknowledged_and_takes_writes_once_promoted() -> None:
    primary = Cluster.started()
    try:
        standby = Standby.following(primary, "second")
        try:
            primary.configure(synchronous_standby_names="second")
            until(lambda: "sync" in primary.psql("SELECT sync_state FROM pg_stat_replication"), "")
            primary.psql("CREATE TABLE kept (n int); INSERT INTO kept VALUES (1)")
            primary.stop("immediate")
            standby.promote()
            standby.psql("INSERT INTO kept VALUES (2)")
            assert standby.psql("SELECT n FROM kept ORDER BY n") == "1\n2"
        finally:
            standby.remove()
    finally:
        primary.remove()


async def test_an_asynchronous_standby_that_hears_nothing_lacks_what_was_acknowledged(
    cluster: Cluster,
) -> None:
    async with running_proxy(cluster.port) as proxy:
        standby = await asyncio.to_thread(Standby.following, cluster, "third", through=proxy.port)
        try:
            await asyncio.to_thread(cluster.psql, "CREATE TABLE known (n int)")
            await asyncio.to_thread(until, lambda: caught_up(cluster), "it does not catch up")
            proxy.change_all(silent=True)
            await asyncio.to_thread(cluster.psql, "INSERT INTO known VALUES (1)")
            await asyncio.to_thread(standby.promote)
            assert await asyncio.to_thread(standby.psql, "SELECT count(*) FROM known") == "0"
        finally:
            await asyncio.to_thread(standby.remove)
