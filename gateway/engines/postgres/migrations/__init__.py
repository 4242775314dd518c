"""The steps that make the schema: `versions/rNNNN_what.py` says what a step is, `NNNN_what.sql` does it.

A step is never changed once released, and there is no way back but a backup. Nodes of the version
before work beside those of this one while they are exchanged, so a step adds what is new and leaves
what is old (a column with a default, a function under a new name); one that takes something away
comes a version later than the code that no longer needs it. `compatible_with` says which code that is.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

from alembic import op
from sqlalchemy.util import await_only

__all__ = ["step"]

_COMPATIBLE = """
CREATE TABLE IF NOT EXISTS compatibility (
    oldest text NOT NULL                          -- the oldest revision whose code works with this schema
);
DELETE FROM compatibility;
INSERT INTO compatibility (oldest) VALUES ('{oldest}');
"""


def step(*files: str, compatible_with: str) -> Callable[[], None]:
    """Return the `upgrade` of a step.

    Args:
        files: In this folder, in order. They are read at once: an upgrade runs in the event loop.
        compatible_with: The oldest revision whose code works with the schema as it is afterwards.
    """
    folder = resources.files("gateway.engines.postgres.migrations")
    scripts = [folder.joinpath(file).read_text(encoding="utf-8") for file in files]
    scripts.append(_COMPATIBLE.format(oldest=compatible_with))

    def upgrade() -> None:
        for script in scripts:
            _run(script)

    return upgrade


def _run(script: str) -> None:
    """Run several statements at once, which the driver does as long as they have no parameters."""
    context = op.get_context()
    if context.as_sql:
        context.impl.static_output(script)
        return
    connection: Any = op.get_bind().connection.driver_connection
    await_only(connection.execute(script))
