"""The SDK's own client of A2A, and raw JSON-RPC, for tests against a running server."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
from a2a.client.client import Client, ClientConfig
from a2a.client.client_factory import create_client
from a2a.server.tasks.task_manager import append_artifact_to_task
from a2a.types import (
    Message,
    Part,
    Role,
    SendMessageConfiguration,
    SendMessageRequest,
    StreamResponse,
    Task,
    TaskState,
)
from google.protobuf.json_format import ParseDict

from gateway.codecs.codec import Frame
from tests.codecs.rules_a2a import check_a2a

__all__ = [
    "Followed",
    "Rpc",
    "client_of",
    "data_part",
    "events_of",
    "hang_up",
    "message",
    "results_of",
    "state_of",
]

_numbers = itertools.count(1)


@asynccontextmanager
async def client_of(url: str, **config: Any) -> AsyncIterator[Client]:
    """Find an agent by its card, and talk to it."""
    async with await create_client(url, ClientConfig(**config)) as client:
        yield client


def data_part(data: dict[str, Any]) -> Part:
    part: Part = ParseDict({"data": data}, Part())
    return part


def message(
    said: str | Part,
    *,
    message_id: str | None = None,
    configuration: SendMessageConfiguration | None = None,
    **ids: Any,
) -> SendMessageRequest:
    return SendMessageRequest(
        message=Message(
            message_id=message_id or f"message-{next(_numbers)}",
            role=Role.ROLE_USER,
            parts=[Part(text=said) if isinstance(said, str) else said],
            **ids,
        ),
        configuration=configuration,
    )


def state_of(task: Task) -> str:
    return str(TaskState.Name(task.status.state)).removeprefix("TASK_STATE_")


async def hang_up(stream: AsyncIterator[StreamResponse]) -> None:
    """Close the connection of a stream in the middle."""
    assert isinstance(stream, AsyncGenerator)
    await stream.aclose()


class Followed:
    """What a client has been told of a task, added up by the SDK's rules."""

    def __init__(self) -> None:
        self.task = Task()
        self.all: list[StreamResponse] = []

    async def follow(self, stream: AsyncIterator[StreamResponse], until: str = "") -> Followed:
        """Take all there is, or up to the first artifact that holds the text `until`."""
        async for response in stream:
            self.take(response)
            if until and until in self.text:
                break
        return self

    def take(self, response: StreamResponse) -> None:
        self.all.append(response)
        if response.HasField("task"):
            self.task.CopyFrom(response.task)
        elif response.HasField("artifact_update"):
            append_artifact_to_task(self.task, response.artifact_update)
        else:
            self.task.status.CopyFrom(response.status_update.status)

    @property
    def kinds(self) -> list[str]:
        return [str(response.WhichOneof("payload")) for response in self.all]

    @property
    def text(self) -> str:
        parts = [part for artifact in self.task.artifacts for part in artifact.parts]
        return "".join(part.text for part in parts)

    @property
    def question(self) -> str:
        return str(self.task.status.message.parts[0].text)


class Rpc:
    """JSON-RPC without an SDK."""

    def __init__(self, http: aiohttp.ClientSession, path: str = "/a2a") -> None:
        self._http = http
        self._path = path

    async def call(self, method: str, params: Any = None, *, version: str | None = "1.0") -> Any:
        """Return the whole answer."""
        body = {"jsonrpc": "2.0", "id": "q", "method": method, "params": params or {}}
        return await self.post(orjson.dumps(body), version=version)

    async def post(self, body: bytes, *, version: str | None = "1.0", status: int = 200) -> Any:
        sent = {"Content-Type": "application/json"}
        if version is not None:
            sent["A2A-Version"] = version
        async with self._http.post(self._path, data=body, headers=sent) as response:
            assert response.status == status, await response.text()
            assert response.content_type == "application/json"
            return await response.json()

    async def code(self, method: str, params: Any = None, **more: Any) -> int:
        """Return the code of the error that a call is answered with."""
        answer = await self.call(method, params, **more)
        assert answer["id"] == "q"
        return int(answer["error"]["code"])

    async def stream(self, method: str, params: Any, **headers: str) -> list[tuple[str, Any]]:
        """Return the events of a stream: their ids, and what is in them."""
        body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
        sent = {"A2A-Version": "1.0", **headers}
        async with self._http.post(self._path, json=body, headers=sent) as response:
            assert response.status == 200
            assert response.content_type == "text/event-stream"
            text = await response.text()
        return events_of(text)


def events_of(text: str) -> list[tuple[str, Any]]:
    """Read a whole stream, and check it against the rules."""
    events: list[tuple[str, Any]] = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            events.append((lines.get("id", ""), orjson.loads(lines["data"])))
    frames = [Frame(orjson.dumps(body)) for _, body in events]
    check_a2a(frames, "error" in events[-1][1])
    return events


def results_of(events: Sequence[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [body["result"] for _, body in events]
