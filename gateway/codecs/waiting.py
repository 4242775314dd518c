"""What clients are told of a pause who have no way to end it. Pure."""

from __future__ import annotations

__all__ = ["waits_for_human"]


def waits_for_human(session_id: str) -> str:
    """Return a sentence that says that a run waits, and where it can be answered."""
    return (
        f"the run waits for a human's decision; session {session_id!r} shows it, "
        "and goes on once it is given there"
    )
