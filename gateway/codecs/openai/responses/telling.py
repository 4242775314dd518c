"""What one event adds to a response: the messages, and the state after them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from gateway.codecs.codec import Frame
from gateway.codecs.openai.responses.objects import (
    item_object,
    output_text,
    response_id,
    response_object,
    summary_text,
)
from gateway.codecs.openai.responses.state import (
    NO_USAGE,
    PREFIXES,
    Call,
    Item,
    ItemStatus,
    Kind,
    State,
)
from gateway.log.entry import Entry

__all__ = ["Telling"]


class Telling:
    """The telling of one event. Whatever it says is numbered, unless its segment is not the wanted."""

    def __init__(
        self,
        state: State,
        entry: Entry,
        run_id: str | None,
        *,
        wanted: int,
        previous: str | None,
        metadata: Mapping[str, str],
    ) -> None:
        """Begin.

        Args:
            state: From before the event.
            entry: Where the event is in the log.
            run_id: Whose it is.
            wanted: The segment that is told; of others nothing is said.
            previous: The id of the response before the first segment.
            metadata: What the session was made with.
        """
        self.state = state
        self.frames: list[Frame] = []
        self._entry = entry
        self._run_id = run_id or ""
        self._wanted = wanted
        self._previous = previous
        self._metadata = metadata

    def change(self, **fields: Any) -> None:
        """Change the state."""
        self.state = replace(self.state, **fields)

    def say(self, kind: str, **fields: Any) -> None:
        """Say one message of the stream."""
        if self.state.segment != self._wanted:
            return
        number = self.state.number
        data = {"type": kind, "sequence_number": number, **fields}
        self.frames.append(Frame(orjson.dumps(data, default=str), kind))
        self.change(number=number + 1)

    def say_response(self, kind: str) -> None:
        """Say how the response stands as a whole."""
        if self.state.segment == self._wanted:
            shown = response_object(self.state, previous=self._previous, metadata=self._metadata)
            self.say(kind, response=shown)

    def begin(self, *, queued: bool = False) -> None:
        """Begin the response, if it has not begun."""
        state = self.state
        if state.phase == "open":
            return
        self.change(
            session_id=self._entry.session_id,
            run_id=self._run_id,
            segment=state.segment + 1,
            phase="open",
            status="queued" if queued else "in_progress",
            number=0,
            created_at=self._entry.at,
            ended_at=None,
            input=state.input if state.segment < 0 else state.answers,
            answers=(),
            items=(),
            usage=NO_USAGE,
        )
        self.say_response("response.created")
        self.say_response("response.queued" if queued else "response.in_progress")

    def end(self, kind: str, **fields: Any) -> None:
        """End the response."""
        self.change(phase="over", ended_at=self._entry.at, **fields)
        self.say_response(kind)

    # --- items ---------------------------------------------------------------------------------

    def _about(self, place: int) -> dict[str, Any]:
        return {"item_id": self.state.items[place].id, "output_index": place}

    def _change_item(self, place: int, **fields: Any) -> Item:
        items = self.state.items
        item = replace(items[place], **fields)
        self.change(items=(*items[:place], item, *items[place + 1 :]))
        return item

    def change_items(self, which: Callable[[int, Item], bool], **fields: Any) -> None:
        """Change all items that are so."""
        items = self.state.items
        if any(which(place, item) for place, item in enumerate(items)):
            self.change(
                items=tuple(
                    replace(item, **fields) if which(place, item) else item
                    for place, item in enumerate(items)
                )
            )

    def open_item(self, kind: Kind, key: str, path: tuple[str, ...], **fields: Any) -> int:
        """Open an item, and the response if it is the first, and return its place."""
        self.begin()
        state = self.state
        place = len(state.items)
        name = response_id(state.session_id, state.run_id, state.segment).removeprefix("resp_")
        call_id = f"call_{name}-{place}" if kind == "function_call" else ""
        item = Item(f"{PREFIXES[kind]}_{name}-{place}", kind, key, path, call_id=call_id, **fields)
        self.change(items=(*state.items, item))
        shown = item_object(item)
        self.say("response.output_item.added", output_index=place, item=shown)
        match kind:
            case "message":
                self._say_part("response.content_part.added", place, output_text(""))
            case "reasoning":
                self._say_summary("response.reasoning_summary_part.added", place, summary_text(""))
            case "mcp_call":
                self.say("response.mcp_call.in_progress", **self._about(place))
            case _:
                pass
        return place

    def _say_part(self, kind: str, place: int, part: Mapping[str, Any]) -> None:
        self.say(kind, **self._about(place), content_index=0, part=part)

    def _say_summary(self, kind: str, place: int, part: Mapping[str, Any]) -> None:
        self.say(kind, **self._about(place), summary_index=0, part=part)

    def say_more(self, place: int, piece: str) -> None:
        """Say the next piece of an item's text, or of its arguments."""
        about = self._about(place)
        match self.state.items[place].kind:
            case "message":
                self.say(
                    "response.output_text.delta",
                    **about,
                    content_index=0,
                    delta=piece,
                    logprobs=[],
                )
            case "reasoning":
                self.say(
                    "response.reasoning_summary_text.delta", **about, summary_index=0, delta=piece
                )
            case "function_call":
                self.say("response.function_call_arguments.delta", **about, delta=piece)
            case "mcp_call":
                self.say("response.mcp_call_arguments.delta", **about, delta=piece)
            case _:
                pass

    def say_all(self, place: int, text: str) -> None:
        """Say an item's text, or its arguments, in one piece."""
        if text:
            self.say_more(place, text)
        self.say_whole(place, text)

    def say_whole(self, place: int, text: str) -> None:
        """Say that an item's text, or its arguments, are complete."""
        item, about = self._change_item(place, text=text), self._about(place)
        match item.kind:
            case "message":
                self.say(
                    "response.output_text.done", **about, content_index=0, text=text, logprobs=[]
                )
                self._say_part("response.content_part.done", place, output_text(text))
            case "reasoning":
                self.say(
                    "response.reasoning_summary_text.done", **about, summary_index=0, text=text
                )
                self._say_summary("response.reasoning_summary_part.done", place, summary_text(text))
            case "function_call":
                self.say(
                    "response.function_call_arguments.done",
                    **about,
                    name=item.name,
                    arguments=text,
                )
            case "mcp_call":
                self.say("response.mcp_call_arguments.done", **about, arguments=text)
            case _:
                pass

    def close_item(self, place: int, status: ItemStatus, **fields: Any) -> None:
        """Close an item."""
        item = self._change_item(place, status=status, **fields)
        if item.kind == "mcp_call" and status in {"completed", "failed"}:
            self.say(f"response.mcp_call.{status}", **self._about(place))
        self.say("response.output_item.done", output_index=place, item=item_object(item))

    # --- calls ---------------------------------------------------------------------------------

    def put_call(self, call: Call) -> None:
        """Remember a call, in place of what was known of it."""
        self.drop_call(call.path, call.call_id)
        self.change(calls=(*self.state.calls, call))

    def drop_call(self, path: tuple[str, ...], call_id: str) -> None:
        """Forget a call."""
        kept = tuple(
            call for call in self.state.calls if (call.path, call.call_id) != (path, call_id)
        )
        if len(kept) != len(self.state.calls):
            self.change(calls=kept)
