"""A real nginx in front of a server, with its defaults: `proxy_pass`, and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

__all__ = ["NGINX", "UPGRADE", "nginx_before"]

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
"""Where it is; None if it is not installed."""

START_LIMIT = 10.0

UPGRADE = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection "upgrade";
"""
"""What a WebSocket needs beside `proxy_pass`."""

# One process, files of its own: for running beside other tests. None of this is about proxying.
CONFIGURATION = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
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
    assert NGINX is not None, "nginx is not installed: `make test` does it"
    port = _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        CONFIGURATION.format(folder=folder, port=port, upstream=upstream, directives=directives)
    )
    arguments = ("-p", str(folder), "-c", str(configuration), "-e", "stderr")
    process = await asyncio.create_subprocess_exec(NGINX, *arguments)
    try:
        async with asyncio.timeout(START_LIMIT):
            await _until_open(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(START_LIMIT):
            await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _until_open(port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "nginx ended; see its words above"
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.02)  # it listens in a moment; there is nothing to wait on
        else:
            writer.close()
            await writer.wait_closed()
            return
