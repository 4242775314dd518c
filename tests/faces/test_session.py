"""A conversation of several turns."""

from __future__ import annotations

import asyncio

import pytest

from runtime import Decision, Message, RuntimeFault, ScriptedModel, ToolCall, tool
from runtime.cancel import CancelToken
from runtime.errors import NoResultError, RunAborted, SessionBusy
from runtime.events import MessageDelta, RunCompleted
from runtime.models.base import Finish
from runtime.models.scripted import Cue, call_tools, say
from runtime.session import (
    MemorySessionStore,
    SavedSession,
    Session,
    create_session,
    fork_session,
    resume_session,
)
from tests.faces.support import NYC, Gated, agent, get_weather, model, weather_agent
from tests.runtime.support import PATIENCE


def session_of(*answers: tuple[Cue, ...], store: MemorySessionStore | None = None) -> Session:
    return create_session(
        model=model(*answers), instructions="Be brief.", tools=[get_weather], store=store
    )


def scripted(session: Session) -> ScriptedModel:
    asked = getattr(session.agent, "model", None)
    assert isinstance(asked, ScriptedModel)
    return asked


async def turn(session: Session, text: str) -> str:
    session.send(text)
    said = [e.text async for e in session.stream() if isinstance(e, MessageDelta)]
    return "".join(said)


def roles(messages: tuple[Message, ...]) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in messages]


@pytest.mark.rows("S31", "S32")
async def test_each_turn_sees_all_that_was_said_before() -> None:
    session = session_of(say("Hi Ann."), say("Ann."))
    assert await turn(session, "I am Ann.") == "Hi Ann."
    assert await turn(session, "Who am I?") == "Ann."
    assert roles(scripted(session).requests[1].messages) == [
        ("system", "Be brief."),
        ("user", "I am Ann."),
        ("assistant", "Hi Ann."),
        ("user", "Who am I?"),
    ]
    assert roles(session.messages)[-1] == ("assistant", "Ann.")


@pytest.mark.rows("S31")
async def test_a_session_is_made_of_an_agent_or_of_its_parts() -> None:
    assert (await create_session(weather_agent()).prompt("Weather?")).output.startswith("Sunny")
    with pytest.raises(ValueError, match="an agent, or what to make one of"):
        create_session(weather_agent(), instructions="Be brief.")
    with pytest.raises(ValueError, match="needs an agent or a model"):
        create_session()


async def test_several_messages_may_be_sent_before_a_turn_and_one_must_be() -> None:
    session = session_of(say("Hi."))
    with pytest.raises(RuntimeFault, match="send something first"):
        session.stream()
    session.send("Hello.")
    session.send(Message(role="user", content="I am Ann."))
    assert roles(session.messages) == []
    async for _event in session.stream():
        pass
    assert [m.content for m in session.messages if m.role == "user"] == ["Hello.", "I am Ann."]


@pytest.mark.rows("S33", "S34", "W-S1")
async def test_the_result_is_that_of_the_newest_turn_and_never_blocks() -> None:
    session = session_of(say("one"), say("two"))
    with pytest.raises(NoResultError):
        _ = session.result
    session.send("1")
    stream = session.stream()
    with pytest.raises(NoResultError):
        _ = session.result
    await anext(stream)
    with pytest.raises(NoResultError):
        _ = session.result
    async for _event in stream:
        pass
    assert session.result.output == "one"
    assert await turn(session, "2") == "two"
    assert session.result.output == "two"


@pytest.mark.rows("S35", "S45")
async def test_the_result_has_the_usage_and_the_agent() -> None:
    session = session_of((*call_tools(NYC),), say("Sunny."))
    result = await session.prompt("Weather?")
    assert result.usage.total_tokens > 0
    assert result.last_agent.name == "assistant"


@pytest.mark.rows("W-S7")
async def test_a_second_turn_at_the_same_time_is_refused_when_it_is_asked_for() -> None:
    session = session_of(say("one"), say("two"))
    session.send("1")
    first = session.stream()
    for again in (session.stream, session.events, lambda: session.resume({})):
        with pytest.raises(SessionBusy):
            again()
    await anext(first)
    session.send("2")
    with pytest.raises(SessionBusy):
        session.stream()
    with pytest.raises(SessionBusy):
        await session.prompt("3")
    async for _event in first:
        pass
    assert await turn(session, "3") == "two"
    assert [m.content for m in session.messages if m.role == "user"] == ["1", "2", "3"]


async def test_a_turn_that_was_closed_before_it_began_leaves_what_was_sent_for_the_next() -> None:
    session = session_of(say("Hi."))
    session.send("Hello.")
    await session.stream().aclose()
    assert roles(session.messages) == []
    async for _event in session.stream():
        pass
    assert session.result.output == "Hi."
    assert scripted(session).requests[0].messages[-1].content == "Hello."


@pytest.mark.rows("W-S6")
async def test_after_an_abort_the_partial_answer_stays_and_the_next_turn_sees_it() -> None:
    place, token = Gated(), CancelToken()
    session = session_of(("Once ", "upon ", place.go_on), say("Yes."))
    session.send("A story.")
    stream = session.stream(cancel=token)
    assert [(await anext(stream)).type for _ in range(2)] == ["message.delta"] * 2
    token.abort()
    with pytest.raises(RunAborted):
        await anext(stream)
    with pytest.raises(NoResultError, match="cancelled"):
        _ = session.result
    assert roles(session.messages) == [("user", "A story."), ("assistant", "Once upon ")]
    assert await turn(session, "Go on?") == "Yes."
    assert roles(scripted(session).requests[1].messages) == [
        ("system", "Be brief."),
        ("user", "A story."),
        ("assistant", "Once upon "),
        ("user", "Go on?"),
    ]


@pytest.mark.rows("W-S6")
async def test_after_an_abort_before_the_first_word_the_next_turn_has_one_user_message() -> None:
    place, token = Gated(), CancelToken()
    session = session_of((place.reached, "never"), say("Yes."))
    session.send("A story.")
    reading = asyncio.create_task(anext(session.stream(cancel=token)))
    async with asyncio.timeout(PATIENCE):
        while not scripted(session).requests:  # noqa: ASYNC110 - the model's own record
            await asyncio.sleep(0)
        token.abort()
        with pytest.raises(RunAborted):
            await reading
    await turn(session, "Well?")
    assert roles(scripted(session).requests[1].messages)[1:] == [("user", "A story.\n\nWell?")]


@pytest.mark.rows("W-S6")
async def test_after_an_abort_in_a_tool_the_call_has_an_answer_in_the_next_turn() -> None:
    place, token = Gated(), CancelToken()

    @tool
    async def work() -> str:
        """Work."""
        await place.stay()
        return "never"

    call = ToolCall(id="c1", name="work", arguments="{}")
    session = create_session(agent(call_tools(call), say("Fine."), tools=[work]))
    reading = asyncio.create_task(session.prompt("Work.", cancel=token))
    async with asyncio.timeout(PATIENCE):
        await place.reached.wait()
        token.abort()
        with pytest.raises(RunAborted):
            await reading
    assert await turn(session, "Never mind.") == "Fine."
    sent = scripted(session).requests[1].messages
    assert [m.role for m in sent] == ["user", "assistant", "tool", "user"]
    assert sent[2].tool_call_id == "c1"


async def test_right_after_a_break_the_next_turn_may_begin_and_waits_for_the_end_of_the_first() -> (
    None
):
    for _ in range(50):
        place = Gated()
        session = session_of(("Once ", place.go_on), say("Yes."))
        session.send("A story.")
        async for _event in session.stream():
            break
        assert await turn(session, "Go on?") == "Yes."
        assert [m.content for m in session.messages] == ["A story.", "Once ", "Go on?", "Yes."]


async def test_after_a_failure_the_session_goes_on() -> None:
    session = session_of((ValueError("no"),), say("Yes."))
    with pytest.raises(ValueError, match="no"):
        await session.prompt("One?")
    with pytest.raises(NoResultError) as raised:
        _ = session.result
    assert isinstance(raised.value.__cause__, ValueError)
    assert await turn(session, "Two?") == "Yes."


async def test_all_that_happens_in_a_turn_can_be_seen_instead() -> None:
    session = session_of(say("Hi."))
    session.send("Hello.")
    events = [event async for event in session.events()]
    assert isinstance(events[-1], RunCompleted)
    assert session.result.output == "Hi."


async def test_a_turn_that_waits_for_a_human_goes_on_or_is_left_behind() -> None:
    @tool(needs_approval=True)
    async def send_mail() -> str:
        """Send."""
        return "sent"

    call = ToolCall(id="c1", name="send_mail", arguments="{}")
    for goes_on in (True, False):
        session = create_session(agent(call_tools(call), say("Done."), tools=[send_mail]))
        (asked,) = (await session.prompt("Send it.")).interrupted
        if goes_on:
            async for _event in session.resume({asked.approval_id: Decision("approved")}):
                pass
            assert session.result.output == "Done."
            assert [m.content for m in session.messages if m.role == "tool"] == ["sent"]
        else:
            assert await turn(session, "Never mind.") == "Done."
            assert [m.role for m in scripted(session).requests[1].messages] == [
                "user",
                "assistant",
                "tool",
                "user",
            ]
        with pytest.raises(RuntimeFault, match="does not wait"):
            session.resume({})
    with pytest.raises(RuntimeFault, match="no turn waits"):
        create_session(agent()).resume({})


async def test_a_turn_that_goes_on_is_waited_for_like_any_other() -> None:
    place = Gated()

    @tool(needs_approval=True)
    async def send_mail() -> str:
        """Send."""
        await place.stay()
        return "sent"

    call = ToolCall(id="c1", name="send_mail", arguments="{}")
    session = create_session(agent(call_tools(call), say("Done."), tools=[send_mail]))
    (asked,) = (await session.prompt("Send it.")).interrupted
    reading = asyncio.create_task(anext(session.resume({asked.approval_id: Decision("approved")})))
    async with asyncio.timeout(PATIENCE):
        await place.reached.wait()
        waiting = asyncio.create_task(session.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        place.go_on.set()
        await reading
        await waiting
        await session.close()


@pytest.mark.rows("SX9")
async def test_what_was_saved_does_not_change_and_goes_on_under_the_same_id() -> None:
    session = session_of(say("one"), say("two"))
    await turn(session, "1")
    saved = await session.save()
    await turn(session, "2")
    assert roles(saved.messages) == [("user", "1"), ("assistant", "one")]
    text = saved.model_dump_json()
    again = resume_session(SavedSession.model_validate_json(text), model=model(say("three")))
    assert again.session_id == session.session_id
    assert await turn(again, "3") == "three"
    assert [m.content for m in again.messages] == ["1", "one", "3", "three"]


@pytest.mark.rows("SX9")
async def test_a_fork_begins_with_the_same_conversation_and_is_another_session() -> None:
    session = session_of(say("one"), say("two"))
    await turn(session, "1")
    fork = fork_session(session.saved(), model=model(say("other")))
    assert fork.session_id != session.session_id
    await turn(session, "2")
    await turn(fork, "2")
    assert [m.content for m in session.messages] == ["1", "one", "2", "two"]
    assert [m.content for m in fork.messages] == ["1", "one", "2", "other"]


@pytest.mark.rows("SX9")
async def test_with_a_store_each_turn_is_saved_before_its_stream_ends() -> None:
    store = MemorySessionStore()
    place, token = Gated(), CancelToken()
    session = session_of(("one", Finish("stop")), ("par", place.go_on), store=store)
    session.send("1")
    async for _event in session.stream():
        pass
    assert (await store.load(session.session_id)).messages == session.messages
    session.send("2")
    stream = session.stream(cancel=token)
    await anext(stream)
    token.abort()
    with pytest.raises(RunAborted):
        await anext(stream)
    kept = await store.load(session.session_id)
    assert roles(kept.messages)[-1] == ("assistant", "par")
    other = session_of(store=store)
    await other.save()
    assert await store.session_ids() == (session.session_id, other.session_id)
    await store.delete(session.session_id)
    await store.delete("unknown")
    with pytest.raises(KeyError):
        await store.load(session.session_id)


async def test_an_abort_while_a_finished_turn_is_saved_does_not_disturb_the_saving() -> None:
    place, token = Gated(), CancelToken()

    class Slow(MemorySessionStore):
        async def save(self, saved: SavedSession) -> None:
            await place.stay()
            await super().save(saved)

    store = Slow()
    session = session_of(say("one"), store=store)
    reading = asyncio.create_task(session.prompt("1", cancel=token))
    async with asyncio.timeout(PATIENCE):
        await place.reached.wait()
        token.abort()
        await asyncio.sleep(0)
        place.go_on.set()
        assert (await reading).output == "one"
    assert (await store.load(session.session_id)).messages == session.messages


async def test_a_turn_that_cannot_be_saved_says_so() -> None:
    class Full(MemorySessionStore):
        async def save(self, saved: SavedSession) -> None:
            raise OSError("disk full")

    session = session_of(say("one"), store=Full())
    with pytest.raises(OSError, match="disk full"):
        await session.prompt("1")


@pytest.mark.rows("SX9")
async def test_waiting_returns_when_no_turn_is_under_way() -> None:
    place = Gated()
    session = session_of(("one", place.go_on, Finish("stop")))
    await session.wait()
    reading = asyncio.create_task(session.prompt("1"))
    async with asyncio.timeout(PATIENCE):
        while not session.messages:  # noqa: ASYNC110 - the turn has begun
            await asyncio.sleep(0)
        waiting = asyncio.create_task(session.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        place.go_on.set()
        await waiting
        await reading


@pytest.mark.rows("SX9")
async def test_closing_stops_the_turn_and_refuses_what_comes_later() -> None:
    place = Gated()
    session = session_of(("one", place.go_on))
    session.send("1")
    stream = session.stream()
    await anext(stream)
    async with asyncio.timeout(PATIENCE):
        await session.close()
    await session.close()
    with pytest.raises(RunAborted):
        await anext(stream)
    for late in (lambda: session.send("2"), session.stream, session.events):
        with pytest.raises(RuntimeFault, match="closed"):
            late()
    assert roles(session.messages) == [("user", "1"), ("assistant", "one")]
