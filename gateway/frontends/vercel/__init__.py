"""The AI SDK's UI message stream, over HTTP and WebSocket."""

from __future__ import annotations

from gateway.frontends.vercel.routes import routes

__all__ = ["routes"]
