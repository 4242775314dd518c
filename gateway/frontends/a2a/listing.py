"""Pages of tasks, those that changed last first. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from a2a.types import ListTasksRequest, TaskState
from a2a.utils.errors import InvalidParamsError

from gateway.codecs.a2a.objects import Json
from gateway.codecs.native import timestamp
from gateway.frontends.a2a.params import history_of
from gateway.frontends.a2a.tasks import Standing

__all__ = ["page_of"]

_PAGE = 50
_LARGEST_PAGE = 100
"""Both by the specification."""


def page_of(tasks: Iterable[Standing], asked: ListTasksRequest) -> Json:
    """Return the page that was asked for.

    A page's token names its last task by its place in the order: what changes meanwhile moves to
    the front, and cannot come twice.

    Raises:
        InvalidParamsError: If it was asked for in a wrong way.
    """
    size = asked.page_size if asked.HasField("page_size") else _PAGE
    if not 1 <= size <= _LARGEST_PAGE:
        raise InvalidParamsError(f"`pageSize` is a number from 1 to {_LARGEST_PAGE}")
    history = history_of(asked)
    found = sorted((task for task in tasks if _fits(task, asked)), key=_order, reverse=True)
    after = _after(asked.page_token)
    rest = [task for task in found if after is None or _order(task) < after]
    page = rest[:size]
    return {
        "tasks": [
            task.so_far.as_json(history=history, artifacts=asked.include_artifacts) for task in page
        ],
        "nextPageToken": _token(page[-1]) if len(rest) > size else "",
        "pageSize": size,
        "totalSize": len(found),
    }


def _fits(task: Standing, asked: ListTasksRequest) -> bool:
    if asked.status and TaskState.Value(task.so_far.state) != asked.status:
        return False
    if not asked.HasField("status_timestamp_after"):
        return True
    return task.so_far.changed_at >= timestamp(asked.status_timestamp_after.ToMilliseconds())


def _order(task: Standing) -> tuple[int, str]:
    return task.so_far.changed_seq, task.codec.task_id


def _token(task: Standing) -> str:
    seq, task_id = _order(task)
    return base64.urlsafe_b64encode(f"{seq} {task_id}".encode()).decode()


def _after(token: str) -> tuple[int, str] | None:
    """Return the last task of the page before, by its place in the order."""
    if not token:
        return None
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode()
        seq, _, task_id = text.partition(" ")
        return int(seq), task_id
    except (binascii.Error, ValueError) as error:
        raise InvalidParamsError("`pageToken` is none of ours") from error
