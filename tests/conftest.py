"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

pytest_plugins = ["tests.faults.plugin"]

# No deadline: the machines are noisy. Derandomised: a failure in one place is one everywhere.
settings.register_profile("tidegate", deadline=None, derandomize=True)
settings.load_profile("tidegate")


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail any test in which our code blocks the event loop."""
    # Never nest two: they switch each other off.
    with blockbuster_ctx(["gateway", "runtime"]) as blocking:
        # asyncpg looks whether there are files with passwords and keys.
        for name in ("os.stat", "os.path.abspath", "os.readlink"):
            blocking.functions[name].can_block_in("asyncpg/connect_utils.py", "_connect")
        yield
