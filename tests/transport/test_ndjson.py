"""What only NDJSON and the JSON page have."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.site import Site, running_site


async def page(site: Site, session_id: str, **query: str) -> tuple[int, dict[str, Any]]:
    async with site.http.get(
        f"/v1/sessions/{session_id}/events", params=query, headers={"Accept": "application/json"}
    ) as response:
        return response.status, await response.json(content_type=None)


async def test_keepalives_are_empty_lines() -> None:
    async with running_site(keepalive_s=0.05) as site:
        session_id = await site.create()
        path = f"/v1/sessions/{session_id}/events?after=$"
        headers = {"Accept": "application/x-ndjson"}
        async with site.http.get(path, headers=headers) as response:
            assert response.content_type == "application/x-ndjson"
            assert await response.content.readline() == b"\n", "the head comes at once"
            assert orjson.loads(await response.content.readline())["type"] == "stream.caught_up"
            assert await response.content.readline() == b"\n"
            assert await response.content.readline() == b"\n"


async def test_the_pages_of_a_log_are_the_log(site: Site) -> None:
    talk = await site.talk()
    await talk.tell(*range(7))
    head = await site.engine.head(talk.session_id)
    seqs, cursor = [], "0"
    while True:
        status, body = await page(site, talk.session_id, after=cursor, limit="3")
        assert status == 200
        seqs += [event["seq"] for event in body["events"]]
        cursor = body["cursor"]
        if body["caught_up"]:
            break
        assert len(body["events"]) == 3
    assert seqs == list(range(1, head.tail.seq + 1))
    assert cursor == str(head.tail)
    assert await page(site, talk.session_id, after=cursor) == (
        200,
        {"events": [], "cursor": cursor, "caught_up": True},
    )


async def test_a_page_begins_at_the_start_unless_told_otherwise(site: Site) -> None:
    session_id = await site.create()
    _, body = await page(site, session_id)
    assert [event["type"] for event in body["events"]] == ["session.created"]
    _, body = await page(site, session_id, after="$")
    assert body["events"] == []


@pytest.mark.rule("reset.honest", "http.problem")
async def test_a_page_at_a_cursor_that_cannot_be_served_says_why(site: Site) -> None:
    session_id = await site.create()
    status, body = await page(site, session_id, after="zzzz.1.00000000")
    assert (status, body["code"], body["reason"]) == (410, "cursor_invalid", "epoch_changed")


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "x", "", "1e3", "٣", "9" * 5000])
async def test_a_limit_out_of_bounds_is_refused(site: Site, limit: str) -> None:
    status, body = await page(site, await site.create(), limit=limit)
    assert (status, body["code"]) == (422, "command_malformed")
