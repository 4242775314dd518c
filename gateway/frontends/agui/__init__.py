"""AG-UI."""

from __future__ import annotations

from gateway.frontends.agui.routes import routes

__all__ = ["routes"]
