"""What is logged, and how it looks."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson
import structlog

from gateway.config import LogLevel

__all__ = ["configure_logging", "log_nothing"]

CHATTY = ("alembic", "httpx", "httpx2", "openai")
"""Libraries that log a line for each request, or step; heard when the level is `debug`."""


def configure_logging(level: LogLevel) -> None:
    """Log to standard error: lines for people on a terminal, else one JSON object a line."""
    people = sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if people else "iso", utc=not people),
    ]
    machines = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(
            serializer=lambda *a, **k: orjson.dumps(*a, **k).decode()
        ),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *([structlog.dev.ConsoleRenderer()] if people else machines),
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel("DEBUG" if level == "debug" else "WARNING")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def log_nothing() -> None:
    """Keep the log quiet: what people need to know of a run is on the terminal already."""
    logging.getLogger().addHandler(logging.NullHandler())
