"""Every test here leaves no task behind."""

from __future__ import annotations

from tests.support.tasks import no_task_left

__all__ = ["no_task_left"]
