"""A stock `EventSource`, without any of our code around it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.driver import OpenPage

pytestmark = pytest.mark.asyncio(loop_scope="session")

COLLECT = """
({ url, until }) => new Promise((resolve, reject) => {
  const source = new EventSource(url);
  const seen = [];
  source.onmessage = ({ data, lastEventId }) => {
    const event = JSON.parse(data);
    seen.push({ type: event.type, seq: event.seq, cursor: event.cursor, lastEventId });
    if (event.type === until) {
      source.close();
      resolve(seen);
    }
  };
  source.onerror = () => reject(new Error("the stream broke"));
})
"""


@pytest.mark.rule("sse.frame")
async def test_onmessage_sees_every_type_and_its_last_event_id_resumes(
    open_page: OpenPage,
) -> None:
    user = await open_page()
    await user.say("one two three four five")
    await user.until_run("Done")
    session_id = user.page.url.rsplit("/", 1)[1]
    url = f"/v1/sessions/{session_id}/events?after="

    whole: list[dict[str, Any]] = await user.evaluate(
        COLLECT, {"url": f"{url}0", "until": "run.completed"}
    )
    events = [event for event in whole if event["seq"] is not None]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert {"session.created", "input.accepted", "run.started", "message.delta"} <= {
        event["type"] for event in events
    }
    assert all(event["lastEventId"] == event["cursor"] for event in events)

    for middle in (0, len(events) // 2, len(events) - 2):
        token = events[middle]["lastEventId"]
        rest = await user.evaluate(COLLECT, {"url": url + token, "until": "run.completed"})
        assert [event for event in rest if event["seq"] is not None] == events[middle + 1 :]
