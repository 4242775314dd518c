"""OpenAI's Responses."""

from __future__ import annotations

from gateway.frontends.openai.responses.routes import routes

__all__ = ["routes"]
