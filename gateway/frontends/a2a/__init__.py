"""A2A 1.0, JSON-RPC over HTTP. What needs the SDK is imported by the first request."""

from __future__ import annotations

from gateway.frontends.a2a.routes import routes

__all__ = ["routes"]
