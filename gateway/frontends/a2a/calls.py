"""What a request of A2A asks for: a card, or one of the methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from a2a.utils.errors import (
    A2AError,
    MethodNotFoundError,
    PushNotificationNotSupportedError,
    UnsupportedOperationError,
)
from aiohttp import web

from gateway.codecs.a2a.objects import Json
from gateway.errors import AgentNotFound, GatewayError
from gateway.frontends.a2a.cards import base_url, card_of
from gateway.frontends.a2a.methods import Methods
from gateway.frontends.a2a.rpc import Asked, check_version, read, refusal, response, translated
from gateway.transports.services import Services

__all__ = ["Calls"]

_Method = Callable[[Asked], Awaitable[Json | web.StreamResponse]]

_NO_ID = b"null"


class Calls:
    """Answers requests of A2A."""

    def __init__(self, services: Services) -> None:
        """Make it.

        Args:
            services: The server's parts.
        """
        self._manager = services.manager
        methods = Methods(services)
        self._methods: dict[str, _Method] = {
            "SendMessage": methods.send_message,
            "SendStreamingMessage": methods.send_streaming_message,
            "GetTask": methods.get_task,
            "ListTasks": methods.list_tasks,
            "CancelTask": methods.cancel_task,
            "SubscribeToTask": methods.subscribe_to_task,
            "CreateTaskPushNotificationConfig": _no_push,
            "GetTaskPushNotificationConfig": _no_push,
            "ListTaskPushNotificationConfigs": _no_push,
            "DeleteTaskPushNotificationConfig": _no_push,
            "GetExtendedAgentCard": _no_extended_card,
        }

    def card(self, request: web.Request) -> web.Response:
        """Answer with the card of the agent that the path names, or of the default one.

        Raises:
            AgentNotFound: If there is no such agent.
        """
        card = card_of(self._agent(request), base_url(request))
        return web.Response(
            body=orjson.dumps(card),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    def _agent(self, request: web.Request) -> dict[str, Any]:
        agents = self._manager.agents()
        name = request.match_info.get("agent", agents[0]["name"])
        for agent in agents:
            if agent["name"] == name:
                return agent
        raise AgentNotFound(f"there is no agent {name!r}")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Do what a request asks for. Errors are JSON-RPC errors, of HTTP status 200 or 503.

        Raises:
            AgentNotFound: If there is no such agent.
            web.HTTPUnsupportedMediaType: If the body is not declared as JSON.
        """
        agent = str(self._agent(request)["name"])
        request_id = _NO_ID
        try:
            asked = await read(request, agent)
            request_id = asked.id
            check_version(request)
            method = self._methods.get(asked.method)
            if method is None:
                raise MethodNotFoundError(f"there is no method {asked.method!r}")
            result = await method(asked)
        except A2AError as error:
            return refusal(request_id, error)
        except GatewayError as error:
            return refusal(request_id, translated(error), error)
        if isinstance(result, web.StreamResponse):
            return result
        return response(request_id, b'"result":' + orjson.dumps(result))


async def _no_push(asked: Asked) -> Json:
    raise PushNotificationNotSupportedError("nothing is pushed from here: subscribe to the task")


async def _no_extended_card(asked: Asked) -> Json:
    raise UnsupportedOperationError("the public agent card says all")
