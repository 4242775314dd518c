"""`POST /v1/chat/completions`: agents as models, for whatever speaks as OpenAI's clients do.

The protocol has no conversations: each request brings all that was said before. So each is a session
of its own, which `X-Tidegate-Session-Id` names for people who want to look at it. Nobody can come
back to an answer, and so its run ends with the connection. An `Idempotency-Key` changes that: the
same request under the same key gets the same answer, from the same run.

A run that waits for a tool of the client's is ended once the client was told: the result will come
with the next request, which is another session.
"""

from __future__ import annotations

import hashlib
import logging
from contextlib import aclosing

import orjson
from aiohttp import web

from gateway.codecs.codec import Projection
from gateway.codecs.framing import bare
from gateway.codecs.openai.chat_completions import (
    ChatCompletions,
    ChatRequest,
    ChatState,
    completion,
    read_request,
)
from gateway.errors import EngineUnavailable, GatewayError, ShuttingDown
from gateway.frontends.openai.errors import NO_RETRY, answering_openai, error_response
from gateway.frontends.turns import Turn, new_command_id, stop, take_first_turn
from gateway.http.bodies import json_body
from gateway.http.problems import retry_after
from gateway.log.entry import Entry
from gateway.sessions.ids import new_session_id
from gateway.sessions.manager import RunPlace
from gateway.sessions.snapshot import Snapshot
from gateway.transports.following import despite_outage, follow_run
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services

__all__ = ["SESSION_HEADER", "routes"]

_LOGGER = logging.getLogger(__name__)

SESSION_HEADER = "X-Tidegate-Session-Id"


def routes(services: Services) -> list[web.RouteDef]:
    """Return the one route."""
    return [web.post("/v1/chat/completions", answering_openai(_Endpoint(services).answer))]


class _Endpoint:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._manager = services.manager

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = read_request(
            await json_body(request, limit=self._services.settings.max_history_bytes)
        )
        key = request.headers.get("Idempotency-Key")
        turn = _turn(asked, key)
        with self._manager.attending(turn.session_id):
            place = await take_first_turn(self._services, turn, is_keyed=key is not None)
            try:
                if asked.stream:
                    return await self._stream(request, place, asked, is_keyed=key is not None)
                return await self._whole(place, asked, is_keyed=key is not None)
            finally:
                if asked.tools:
                    await self._let_go(place)

    async def _stream(
        self, request: web.Request, place: RunPlace, asked: ChatRequest, *, is_keyed: bool
    ) -> web.StreamResponse:
        superseded = await self._superseded(place) if is_keyed else frozenset()
        codec = ChatCompletions(asked.model, asked.include_usage, superseded)
        look = Look(codec, headers={SESSION_HEADER: place.session_id})
        return await stream_run(request, self._services, place, look)

    async def _whole(self, place: RunPlace, asked: ChatRequest, *, is_keyed: bool) -> web.Response:
        headers = {SESSION_HEADER: place.session_id}
        try:
            entries = await self._all_of(place)
            superseded = await self._superseded(place)
        except (ShuttingDown, EngineUnavailable) as error:
            # The run goes on. Only under a key would another try meet it again.
            advice = {"Retry-After": retry_after()} if is_keyed else NO_RETRY
            return error_response(
                error.http_status, error.code, str(error), headers={**headers, **advice}
            )
        codec = ChatCompletions(asked.model, include_usage=True, superseded=superseded)
        projection: Projection[ChatState] = Projection(codec, bare)
        chunks = [chunk for entry in entries for chunk in projection.feed(entry)]
        if (failure := projection.state.failure) is not None:
            # It may have had effects: trying again by itself is nothing that a client should do.
            headers |= NO_RETRY
            if failure.retry_after is not None:
                headers["Retry-After"] = f"{failure.retry_after:.0f}"
            return error_response(failure.status, failure.code, failure.message, headers=headers)
        return web.Response(
            body=orjson.dumps(completion(chunks[:-1])),  # the last one is `[DONE]`
            content_type="application/json",
            headers={"Cache-Control": "no-store", **headers},
        )

    async def _all_of(self, place: RunPlace) -> list[Entry]:
        """Wait for the end of the run, or its pause.

        Raises:
            ShuttingDown: If the server stops before.
            EngineClosed: If the store was closed.
        """
        entries: list[Entry] = []
        async with (
            self._services.streams.until_drained(),
            aclosing(follow_run(self._services, place)) as batches,
        ):
            async for batch in batches:
                entries += batch
        return entries

    async def _superseded(self, place: RunPlace) -> frozenset[str]:
        """Return the messages that were begun and then said anew."""
        snapshot = await self._snapshot(place)
        return frozenset(m.message_id for m in snapshot.messages if m.superseded)

    async def _snapshot(self, place: RunPlace) -> Snapshot:
        return await despite_outage(
            self._services, lambda: self._manager.snapshot(place.session_id)
        )

    async def _let_go(self, place: RunPlace) -> None:
        """End a run that waits for nothing but tools of the client's."""
        try:
            snapshot = await self._snapshot(place)
            pending = snapshot.approvals
            if pending and all(approval.wants == "result" for approval in pending):
                await stop(self._services, place.session_id, place.run_id)
        except GatewayError as error:
            extra = {"run_id": place.run_id, "code": error.code}
            _LOGGER.info("a run that nobody waits for could not be ended", extra=extra)


def _turn(asked: ChatRequest, key: str | None) -> Turn:
    """Return what a request asks for; under the same key, of the same session."""
    said = asked.conversation
    named = None if key is None else hashlib.sha256(key.encode(errors="replace")).hexdigest()[:40]
    return Turn(
        session_id=new_session_id() if named is None else f"chat_{named}",
        command_id=new_command_id() if named is None else f"chat_{named}",
        agent=asked.model,
        text=said.text,
        result=said.result,
        history=said.history,
        instructions=said.instructions,
        tools=asked.tools,
        options=asked.options,
        metadata=asked.metadata,
        cancels=key is None,
    )
