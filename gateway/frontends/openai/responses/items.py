"""What a response was made from: its input items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.codecs.openai.responses import input_objects
from gateway.frontends.openai.errors import InvalidRequest
from gateway.frontends.openai.responses.log import Located, Outlines

__all__ = ["input_items"]

_MOST = 100
_BY_DEFAULT = 20


async def input_items(
    outlines: Outlines, located: Located, query: Mapping[str, str]
) -> dict[str, Any]:
    """Return a page of a response's input items, the newest first unless asked otherwise.

    Args:
        outlines: Where responses are found.
        located: The response.
        query: `limit`, `order` and `after`, as the API has them.

    Raises:
        InvalidRequest: If the query cannot be taken.
    """
    limit = query.get("limit", str(_BY_DEFAULT))
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:4]) <= _MOST):
        raise InvalidRequest(f"`limit` must be a number from 1 to {_MOST}", param="limit")
    items = await _items(outlines, located)
    if query.get("order", "desc") == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if (after := query.get("after")) is not None:
        if after not in ids:
            raise InvalidRequest(f"Item with id {after!r} not found.", param="after")
        items = items[ids.index(after) + 1 :]
    page = items[: int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(items) > len(page),
    }


async def _items(outlines: Outlines, located: Located) -> list[dict[str, Any]]:
    told = (await outlines.whole(located)).state.input
    before = [
        item for message in await outlines.history(located) for item in input_objects(message)
    ]
    shown = [*before, *told]
    return [{"id": f"in_{located.name}-{place}", **item} for place, item in enumerate(shown)]
