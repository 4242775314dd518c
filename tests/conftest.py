"""What holds for every test."""

from __future__ import annotations

from hypothesis import settings

# No deadline: the machines are noisy. Derandomised: a failure in one place is one everywhere.
settings.register_profile("tidegate", deadline=None, derandomize=True)
settings.load_profile("tidegate")
