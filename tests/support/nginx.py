"""A real nginx in front of servers: with its defaults and nothing else, or with a configuration."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.support.ports import free_port, until_open

__all__ = ["NGINX", "UPGRADE", "nginx_before", "nginx_with"]

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""Where it is; None if it is not installed."""

START_LIMIT = 10.0

UPGRADE = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
"""
"""What a WebSocket needs beside `proxy_pass`."""

TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""What nginx keeps temporary files of, each in a place that was fixed when it was built."""

CONFIGURATION = """
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  server {{
    listen 80;
    location / {{
      proxy_pass {upstream};
      {directives}
    }}
  }}
}}
"""


@asynccontextmanager
async def nginx_before(upstream: str, folder: Path, directives: str = "") -> AsyncIterator[str]:
    """Run nginx for the length of a block, and give its address.

    Args:
        upstream: The address of the server.
        folder: For its files; of no use to anybody else.
        directives: Beside `proxy_pass`.
    """
    configuration = CONFIGURATION.format(upstream=upstream, directives=directives)
    async with nginx_with(configuration, folder) as url:
        yield url


@asynccontextmanager
async def nginx_with(
    configuration: str, folder: Path, changes: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run nginx with a whole configuration for the length of a block, and give its address.

    One process with files of its own, for running beside other tests, on a free port of the loopback.

    Args:
        configuration: What `nginx.conf` says; it listens on port 80.
        folder: For its files; of no use to anybody else.
        changes: What to say in place of some of its words; each has to be there.
    """
    assert NGINX is not None, "nginx is not installed: `make test` does it"
    port = free_port()
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in TEMPORARY)
    for words, others in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "http {": f"http {{\n{temporary}",
        **(changes or {}),
    }.items():
        assert words in configuration, words
        configuration = configuration.replace(words, others)
    file = folder / "nginx.conf"
    file.write_text(configuration)
    alone = f"daemon off; master_process off; pid {folder}/nginx.pid;"
    arguments = ("-p", str(folder), "-c", str(file), "-e", "stderr", "-g", alone)
    process = await asyncio.create_subprocess_exec(NGINX, *arguments)
    try:
        async with asyncio.timeout(START_LIMIT):
            await until_open(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(START_LIMIT):
            await process.wait()
