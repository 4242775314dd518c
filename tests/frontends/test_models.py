"""`GET /v1/models`: agents and graphs under the name that a chat completion takes."""

from __future__ import annotations

import time

from gateway.builtin.scripted import echo
from tests.support.chat_site import chat_site
from tests.support.puppet import Part, Puppet


async def never(part: Part) -> None:
    raise AssertionError("nobody asked")


async def test_every_agent_and_graph_is_a_model() -> None:
    before = int(time.time())
    graph = Puppet(never, "my.plan", "graph")
    async with chat_site(echo(), graph) as site:
        async with site.http.get("/v1/models") as response:
            assert response.status == 200
            assert response.headers["Cache-Control"] == "no-store"
            listed = await response.json()
        async with site.http.get("/v1/models/my.plan") as response:
            one = await response.json()
    created = listed["data"][0]["created"]
    assert before <= created <= int(time.time())
    assert listed == {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": created, "owned_by": "tidegate"}
            for name in ("echo", "my.plan")
        ],
    }
    assert one == listed["data"][1]


async def test_an_unknown_model_is_told_in_the_shape_of_openai() -> None:
    async with (
        chat_site(echo()) as site,
        site.http.get("/v1/models/org/gpt-nobody") as response,
    ):
        assert response.status == 404
        assert await response.json() == {
            "error": {
                "message": "the model 'org/gpt-nobody' does not exist",
                "type": "invalid_request_error",
                "param": None,
                "code": "model_not_found",
            }
        }
