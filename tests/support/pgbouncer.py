"""A real PgBouncer before a cluster, which lends out connections for a transaction at a time."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port, until_open
from tests.support.postgres import USER, Cluster

__all__ = ["PGBOUNCER", "pgbouncer_before"]

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""Where it is; None if it is not installed."""

START_LIMIT = 10.0

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
"""


@asynccontextmanager
async def pgbouncer_before(cluster: Cluster, folder: Path) -> AsyncIterator[int]:
    """Run PgBouncer for the length of a block, and give its port on the loopback.

    Args:
        cluster: Before which.
        folder: For its configuration.
    """
    assert PGBOUNCER is not None, "pgbouncer is not installed: `make test` does it"
    port = free_port()
    file = folder / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(server=cluster.port, port=port, user=USER))
    # Like Postgres it refuses to be root; it reads its file before it changes.
    arguments = ("-u", "nobody") if os.geteuid() == 0 else ()
    process = await asyncio.create_subprocess_exec(
        PGBOUNCER, "-q", *arguments, str(file), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(START_LIMIT):
            await until_open(port, process)
        yield port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
