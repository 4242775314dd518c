"""The methods of A2A: messages become turns of a session, and tasks are its runs."""

from __future__ import annotations

import orjson
from a2a.types import CancelTaskRequest, GetTaskRequest, ListTasksRequest, SubscribeToTaskRequest
from a2a.utils.errors import TaskNotCancelableError, UnsupportedOperationError
from aiohttp import web

from gateway.codecs.a2a.codec import with_id
from gateway.codecs.a2a.objects import Json
from gateway.codecs.codec import Frame
from gateway.codecs.framing import sse, sse_with_id
from gateway.errors import CursorMalformed, RunUnknown, SessionGone, SessionUnknown
from gateway.frontends.a2a.listing import page_of
from gateway.frontends.a2a.params import history_of, params_of
from gateway.frontends.a2a.rpc import Asked
from gateway.frontends.a2a.tasks import Standing, codec_of, finished, standing, tasks_of
from gateway.frontends.a2a.turns import OVER, context_of, turn_of
from gateway.frontends.names import RunName, session_id_for
from gateway.frontends.turns import stop
from gateway.log.position import Position
from gateway.sessions.manager import RunPlace
from gateway.transports.projected import Look, stream_run
from gateway.transports.services import Services

__all__ = ["Methods"]

KEEPALIVE_SECONDS = 4
"""The SDK's client, as it comes, takes a stream that is silent for 5 s for dead."""


class Methods:
    """Each takes a request, and returns its result or a stream.

    What is wrong is raised, as an error of A2A or of ours.
    """

    def __init__(self, services: Services) -> None:
        """Make them.

        Args:
            services: The server's parts.
        """
        self._services = services

    async def send_message(self, asked: Asked) -> Json:
        """Give a message to the agent, and wait until the task is over or waits for the client."""
        taken = await turn_of(self._services, asked)
        codec = codec_of(taken.place, taken.context_id)
        wait = standing if taken.at_once else finished
        task = await wait(self._services, taken.place, codec)
        return {"task": task.so_far.as_json(history=taken.history)}

    async def send_streaming_message(self, asked: Asked) -> web.StreamResponse:
        """Give a message to the agent, and tell the task as it goes."""
        taken = await turn_of(self._services, asked)
        place, history = taken.place, taken.history
        codec = codec_of(place, taken.context_id, history=history != 0)
        if not taken.is_answer:
            return await self._stream(asked, place, Standing(codec, place.segments[-1]))
        task = await standing(self._services, place, codec, end=False)
        return await self._stream(asked, place, task, history=history)

    async def get_task(self, asked: Asked) -> Json:
        """Return a task as it stands."""
        request = params_of(asked.params, GetTaskRequest)
        history = history_of(request)
        name = RunName.parse(request.id)
        try:
            place = await self._place(name)
        except RunUnknown:
            # Cancelled in the queue, it never was a run; it is in the log all the same.
            context_id = await context_of(self._services, name.session_id)
            tasks = await tasks_of(self._services, name.session_id, context_id)
            if name.run_id not in tasks:
                raise
            task = tasks[name.run_id]
        else:
            task = await self._standing(place)
        return task.so_far.as_json(history=history)

    async def list_tasks(self, asked: Asked) -> Json:
        """Return the tasks of a conversation, those that changed last first."""
        request = params_of(asked.params, ListTasksRequest)
        if not request.context_id:
            raise UnsupportedOperationError("the tasks of one context can be listed: `contextId`")
        session_id = session_id_for(request.context_id)
        try:
            tasks = await tasks_of(self._services, session_id, request.context_id)
        except (SessionUnknown, SessionGone):
            tasks = {}
        return page_of(tasks.values(), request)

    async def cancel_task(self, asked: Asked) -> Json:
        """End a task, and return it as it is then."""
        name = RunName.parse(params_of(asked.params, CancelTaskRequest).id)
        place = await self._place(name)
        if place.status not in OVER:
            await stop(self._services, name.session_id, name.run_id)
            task = (await self._standing(place)).so_far
            if task.state == "TASK_STATE_CANCELED":
                return task.as_json()
        raise TaskNotCancelableError("the task is over")

    async def subscribe_to_task(self, asked: Asked) -> web.StreamResponse:
        """Tell a task as it stands, and then as it goes.

        A client that names the last event that it has, as clients of server-sent events do when
        they come back, gets the task as it stood there, and all that was told since: also of a task
        that is over by now.
        """
        name = RunName.parse(params_of(asked.params, SubscribeToTaskRequest).id)
        place = await self._place(name)
        through = _last_event(asked, name)
        if through is not None:  # say so at once if it cannot be served
            await self._services.manager.engine.read(name.session_id, through, limit=1)
        elif place.status in OVER:
            raise UnsupportedOperationError(f"the task is {place.status}: get it, to see it")
        task = await self._standing(place, through=through, end=False)
        return await self._stream(asked, place, task)

    async def _place(self, name: RunName) -> RunPlace:
        return await self._services.manager.run(name.session_id, name.run_id)

    async def _standing(
        self, place: RunPlace, *, through: Position | None = None, end: bool = True
    ) -> Standing:
        codec = codec_of(place, await context_of(self._services, place.session_id))
        return await standing(self._services, place, codec, through=through, end=end)

    async def _stream(
        self, asked: Asked, place: RunPlace, task: Standing, *, history: int | None = None
    ) -> web.StreamResponse:
        """Answer with a task as it stands, if it has begun, and all that comes after."""

        def wrap(message: bytes) -> bytes:
            return with_id(message, asked.id)

        first = b":\n\n"
        if task.state.begun:
            result = {"task": task.so_far.as_json(history=history)}
            frame = Frame(orjson.dumps({"jsonrpc": "2.0", "result": result}))
            first = b"id: %b/%b\n%b" % (
                place.session_id.encode(),
                str(task.position).encode(),
                wrap(sse(frame, None)),
            )
        look = Look(
            task.codec,
            sse_with_id,
            first=first,
            keepalive_s=KEEPALIVE_SECONDS,
            state=task.state,
            wrap=wrap,
        )
        return await stream_run(asked.http, self._services, place, look, after=task.position)


def _last_event(asked: Asked, name: RunName) -> Position | None:
    """Return the place in the log that the client says it has come to."""
    told = asked.http.headers.get("Last-Event-ID")
    if not told:
        return None
    session_id, _, cursor = told.rpartition("/")
    if session_id != name.session_id:
        raise CursorMalformed
    return Position.parse(cursor)
