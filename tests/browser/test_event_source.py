"""A stock `EventSource`, without any of our code around it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.driver import OpenPage
from tests.faults.plugin import Judge
from tests.support.gates import GATE, open_gate
from tests.support.server import Server

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


TOUCHED = """
({ url, until }) => new Promise((caughtUp, reject) => {
  window.touched = new Promise((resolve) => {
    const source = new EventSource(url);
    const seen = [];
    let applied = "";
    source.onmessage = ({ data, lastEventId }) => {
      const event = JSON.parse(data);
      const control = event.seq === undefined;
      if (!control) applied = event.cursor;
      seen.push({ type: event.type, control, lastEventId, applied });
      if (event.type === "stream.caught_up") caughtUp();
      if (event.type === until) {
        source.close();
        resolve(seen);
      }
    };
    source.onerror = () => reject(new Error("the stream broke"));
  });
})
"""


@pytest.mark.fault("F27")
@pytest.mark.rule("control.no_id")
async def test_control_objects_between_events_leave_the_last_event_id_alone(
    open_page: OpenPage, server: Server, judge: Judge
) -> None:
    user = await open_page()
    await user.say(f"one two {GATE} three four five six", agent="held")
    await user.until_said("two")
    session_id = user.page.url.rsplit("/", 1)[1]
    path = f"/v1/sessions/{session_id}/events?after="
    # The reset comes first, then what says that all is there, then live events.
    await user.evaluate(TOUCHED, {"url": f"{path}elsewhere.1.0a0b0c0d", "until": "run.completed"})
    await open_gate(server.url)
    seen = await user.evaluate("window.touched")
    controls = [each["type"] for each in seen if each["control"]]
    assert controls == ["stream.reset", "stream.caught_up"]
    assert all(each["lastEventId"] == each["applied"] for each in seen if not each["control"])
    await user.evaluate(TOUCHED, {"url": f"{path}0", "until": "stream.caught_up"})
    whole = await user.evaluate("window.touched")
    assert whole[-1]["control"]
    assert whole[-1]["lastEventId"] == whole[-1]["applied"] != ""
    judge.note("I3", len(seen) + len(whole))
