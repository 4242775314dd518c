"""A2A with a server that is killed: tasks, questions and contexts are there when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from a2a.client.errors import A2AClientError
from a2a.types import GetTaskRequest, ListTasksRequest, StreamResponse, SubscribeToTaskRequest

from tests.frontends.a2a_client import Followed, client_of, message, state_of
from tests.support.server import Server, running_server

WORDS = " ".join(f"word{number}" for number in range(120))


async def listen_and_kill(server: Server, stream: AsyncIterator[StreamResponse]) -> Followed:
    """Follow a task until it has said a few words; kill the server then."""
    seen = await Followed().follow(stream, until="word9")
    await server.kill()
    with pytest.raises(A2AClientError):
        await seen.follow(stream)
    return seen


async def test_tasks_and_questions_are_there_again_after_a_kill(tmp_path: Path) -> None:
    async with asyncio.timeout(50), running_server(tmp_path) as server:
        echo, tools = f"{server.url}/a2a/echo", f"{server.url}/a2a/tools"
        async with client_of(tools) as client:
            asked = await Followed().follow(client.send_message(message("delete notes.txt")))
        assert state_of(asked.task) == "INPUT_REQUIRED"
        sent = message(WORDS, context_id="chat", message_id="m1")
        async with client_of(echo) as client:
            before = await listen_and_kill(server, client.send_message(sent))
        task_id = before.task.id
        await server.restart()

        async with client_of(echo) as client:
            seen = await Followed().follow(client.subscribe(SubscribeToTaskRequest(id=task_id)))
            assert (seen.kinds[0], state_of(seen.task)) == ("task", "COMPLETED")
            assert seen.text == WORDS, "what the killed one had said is emptied, and said anew"
            again = await Followed().follow(client.send_message(sent))
            assert (again.task.id, again.text) == (task_id, WORDS)
            got = await client.get_task(GetTaskRequest(id=task_id))
            assert "".join(part.text for it in got.artifacts for part in it.parts) == WORDS
            listed = await client.list_tasks(ListTasksRequest(context_id="chat"))
            assert [task.id for task in listed.tasks] == [task_id]

        async with client_of(tools) as client:
            task = await client.get_task(GetTaskRequest(id=asked.task.id))
            assert task.status.message == asked.task.status.message
            reply = message("approve", task_id=task.id)
            seen = await Followed().follow(client.send_message(reply))
            assert state_of(seen.task) == "COMPLETED"
            assert "notes.txt is deleted" in seen.text
