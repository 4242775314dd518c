"""`/v1/responses`: agents as models, for OpenAI's clients.

A response is one segment of a run: from its input, or from where it went on after a pause, to its end
or next pause. Its id names the session, the run and the segment, so that each run of each session can
be read as responses, however it was begun, as long as the log is kept.

A response belongs to the client that asked for it: if that one goes away before the end, the run is
cancelled. One that is `background`, or was asked for under an `Idempotency-Key`, goes on: the client
can come back to it.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from gateway.codecs.openai.responses import Whole
from gateway.errors import EngineUnavailable, ShuttingDown
from gateway.frontends.openai.errors import (
    NO_RETRY,
    InvalidRequest,
    answering_openai,
    error_response,
)
from gateway.frontends.openai.responses.input import read_request
from gateway.frontends.openai.responses.items import input_items
from gateway.frontends.openai.responses.log import Located, Outlines, named
from gateway.frontends.openai.responses.turn import turn_for
from gateway.frontends.turns import stop, take_first_turn, take_turn
from gateway.http.bodies import json_body
from gateway.http.problems import retry_after
from gateway.sessions.manager import RunPlace
from gateway.transports.following import despite_outage, follow_run
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services

__all__ = ["routes"]

_LONGEST_NUMBER = 12
"""Digits of a `sequence_number`."""


def routes(services: Services) -> list[web.RouteDef]:
    """Return the routes."""
    endpoint, one = _Endpoint(services), "/v1/responses/{response_id}"
    return [
        web.post("/v1/responses", answering_openai(endpoint.create)),
        web.get(one, answering_openai(endpoint.retrieve), allow_head=False),
        web.delete(one, answering_openai(endpoint.delete)),
        web.post(f"{one}/cancel", answering_openai(endpoint.cancel)),
        web.get(f"{one}/input_items", answering_openai(endpoint.list_input), allow_head=False),
    ]


class _Endpoint:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._outlines = Outlines(services)

    async def create(self, request: web.Request) -> web.StreamResponse:
        wanted = read_request(
            await json_body(request, limit=self._services.settings.max_history_bytes)
        )
        key = request.headers.get("Idempotency-Key")
        turn, is_new = await turn_for(self._services, self._outlines, wanted, key)
        turn = replace(turn, cancels=not wanted.background and key is None)
        with self._services.manager.attending(turn.session_id):
            if is_new:
                place = await take_first_turn(self._services, turn, is_keyed=key is not None)
            else:
                place = await take_turn(self._services, turn)
            located = await despite_outage(self._services, partial(self._located, place))
            if wanted.stream:
                return await self._stream(request, located)
            if wanted.background:
                return _json((await self._whole(located)).object())
            return await self._answer(located, is_keyed=key is not None)

    async def _located(self, place: RunPlace) -> Located:
        return await self._outlines.locate(await self._outlines.segment_of(place))

    async def _whole(self, located: Located, *, before: bool = False) -> Whole:
        whole = partial(self._outlines.whole, located, before=before)
        return await despite_outage(self._services, whole)

    async def _stream(
        self, request: web.Request, located: Located, *, skip: int = 0
    ) -> web.StreamResponse:
        before = await self._whole(located, before=True)
        look = Look(located.codec, skip=skip, state=before.state)
        return await stream_run(request, self._services, located.place, look)

    async def _answer(self, located: Located, *, is_keyed: bool) -> web.Response:
        try:
            return _json((await self._wait(located)).object())
        except (ShuttingDown, EngineUnavailable) as error:
            # The run goes on. Only under a key would another try meet it again.
            message = f"{error}; response 'resp_{located.name}' goes on"
            advice = {"Retry-After": retry_after()} if is_keyed else NO_RETRY
            return error_response(error.http_status, error.code, message, headers=advice)

    async def _wait(self, located: Located) -> Whole:
        """Wait for the end of a response.

        Raises:
            ShuttingDown: If the server stops before.
        """
        place, whole = located.place, Whole(located.codec)
        batches = follow_run(self._services, place, after=place.segments[0])
        async with (
            self._services.streams.until_drained(),
            aclosing(batches),
        ):
            async for batch in batches:
                for entry in batch:
                    whole.feed(entry)
        return whole

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        located = await self._asked_for(request)
        after = request.query.get("starting_after")
        if after is not None and not (after.isascii() and after.isdecimal()):
            raise InvalidRequest("`starting_after` must be a number", param="starting_after")
        if request.query.get("stream", "").lower() in {"true", "1"}:
            skip = 0 if after is None else int(after[:_LONGEST_NUMBER]) + 1
            return await self._stream(request, located, skip=skip)
        return _json((await self._outlines.whole(located)).object())

    async def cancel(self, request: web.Request) -> web.StreamResponse:
        """End the run of a response. Where it has ended already, there is nothing to do."""
        located = await self._asked_for(request)
        if located.is_last_segment:
            await stop(self._services, located.name.session_id, located.name.run_id)
        return _json((await self._outlines.whole(located)).object())

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Say that a part of a conversation cannot be deleted."""
        located = await self._asked_for(request)
        message = (
            "a response is a part of its conversation and cannot be deleted alone; "
            f"DELETE /v1/sessions/{located.name.session_id} deletes the conversation"
        )
        return error_response(405, "not_deletable", message, headers={"Allow": "GET"})

    async def list_input(self, request: web.Request) -> web.StreamResponse:
        located = await self._asked_for(request)
        return _json(await input_items(self._outlines, located, request.query))

    async def _asked_for(self, request: web.Request) -> Located:
        """Return the response that the path names.

        Raises:
            ResponseUnknown: If there is none.
        """
        return await self._outlines.locate(named(request.match_info["response_id"]))


def _json(body: dict[str, Any]) -> web.Response:
    return web.Response(
        body=orjson.dumps(body, default=str),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
