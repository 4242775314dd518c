"""Agent cards: how other agents get to know ours."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiohttp import web

from gateway.codecs.a2a.objects import EXTENSION, Json

__all__ = ["VERSION", "base_url", "card_of"]

VERSION = "1.0"
"""The version of A2A that is spoken here; 0.3 had other methods and other objects."""

_MODES = ("text/plain", "application/json")
_EXTENSION = "Under this key, metadata have the log's `cursor` and `seq`, and what happened."


def _server_version() -> str:
    try:
        return importlib.metadata.version("tidegate")
    except importlib.metadata.PackageNotFoundError:  # run from its source, not installed
        return "0"


_SERVER = _server_version()  # read once: asking takes a look at the disk


def base_url(request: web.Request) -> str:
    """Return the address under which the client knows this server.

    The host is the one that was asked for: a proxy must pass `Host` on, as the checks of it need,
    too. That it speaks TLS in front of us, it says with `X-Forwarded-Proto`; whoever else says so
    deceives nobody but himself, as the answer is kept by no cache.
    """
    told = request.headers.get("X-Forwarded-Proto", "")
    scheme = told if told in {"http", "https"} else request.scheme
    return f"{scheme}://{request.host}"


def card_of(agent: Mapping[str, Any], base: str) -> Json:
    """Return the card of an agent.

    Its one skill is the agent itself: its tools are its own affair, and only tags here.

    Args:
        agent: As `SessionManager.agents` shows it.
        base: The server's address.
    """
    name = str(agent["name"])
    description = str(agent["description"]) or name
    return {
        "name": name,
        "description": description,
        "version": _SERVER,
        "supportedInterfaces": [
            {
                "url": f"{base}/a2a/{quote(name, safe='')}",
                "protocolBinding": "JSONRPC",
                "protocolVersion": VERSION,
            }
        ],
        "capabilities": {
            "streaming": True,
            "pushNotifications": False,
            "extendedAgentCard": False,
            "extensions": [{"uri": EXTENSION, "description": _EXTENSION}],
        },
        "defaultInputModes": _MODES,
        "defaultOutputModes": _MODES,
        "skills": [
            {
                "id": name,
                "name": name,
                "description": description,
                "tags": [agent["kind"], *(tool["name"] for tool in agent["tools"])],
            }
        ],
    }
