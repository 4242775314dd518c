"""New ids: unguessable, and telling what they name."""

from __future__ import annotations

import secrets

__all__ = ["new_message_id", "new_nonce", "new_run_id", "new_session_id"]


def new_session_id() -> str:
    """Return a session id with 128 random bits."""
    return f"ses_{secrets.token_hex(16)}"


def new_run_id() -> str:
    """Return a run id with 96 random bits."""
    return f"run_{secrets.token_hex(12)}"


def new_message_id() -> str:
    """Return a message id with 96 random bits."""
    return f"msg_{secrets.token_hex(12)}"


def new_nonce() -> str:
    """Return the 64 random bits that make one claim of a run unique."""
    return secrets.token_hex(8)
