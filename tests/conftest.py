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
    with blockbuster_ctx(["gateway", "runtime"]):  # never nest two: they switch each other off
        yield
