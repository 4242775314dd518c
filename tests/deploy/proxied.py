"""The nginx of deploy/, in front of whatever a test has for nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.nginx import nginx_with

__all__ = ["DEPLOY", "LOG", "ROOT", "deployed_nginx"]

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"

LOG = "access.log"
"""What nginx logs, in its folder."""


@asynccontextmanager
async def deployed_nginx(
    first: int, second: int, folder: Path, changes: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run nginx with deploy/nginx.conf for the length of a block, and give its address.

    Args:
        first: The port of `node-a`, on the loopback.
        second: That of `node-b`.
        folder: For its files.
        changes: Other words to replace; each has to be there.
    """
    places = {
        "node-a:8080": f"127.0.0.1:{first}",
        "node-b:8080": f"127.0.0.1:{second}",
        "/dev/stdout": str(folder / LOG),
        "worker_rlimit_nofile 65536;": "",  # whoever runs the tests may not be allowed so many
        "worker_connections 16384;": "worker_connections 256;",
    }
    configuration = (DEPLOY / "nginx.conf").read_text()
    async with nginx_with(configuration, folder, places | dict(changes or {})) as url:
        yield url
