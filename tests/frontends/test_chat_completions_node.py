"""OpenAI's client for JavaScript, and the AI SDK with its OpenAI provider in chat mode."""

from __future__ import annotations

from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.models.scripted import ScriptedModel
from tests.support.chat_site import Gated, chat_site, counter, looker
from tests.support.node import told_by


async def test_the_clients_of_the_javascript_world_talk_to_agents() -> None:
    gated = Gated()
    broken = ScriptedModel(lambda request: ["Hello", ModelRefused("it will not")])
    agents = (counter(), looker(), gated.agent, Agent("broken", broken))
    async with chat_site(*agents) as site:
        told = {line.pop("name"): line for line in await told_by("chat.mjs", site.url)}
        answer = "I add.\n\nIt is 4."
        assert told["models"]["models"] == ["counter", "looker", "gated", "broken"]
        assert told["whole"]["content"] == answer
        assert told["stream"] == {
            "content": answer,
            "usage": told["whole"]["usage"],
            "reasons": ["stop"],
        }
        seen = "I saw the north and the south."
        assert told["runTools"]["content"] == seen
        assert told["unknown"] == {
            "error": "NotFoundError",
            "status": 404,
            "code": "model_not_found",
        }
        assert told["refused"]["error"] == "BadRequestError"
        assert told["failed"]["error"] == "InternalServerError"
        assert told["broken"] == {"error": "APIError", "code": "model_refused", "said": "Hello"}
        assert told["generateText"] == {
            "content": answer,
            "reason": "stop",
            "usage": told["whole"]["usage"],
        }
        assert told["generateText tools"] == {"content": seen, "steps": 2}
        streamed = told["streamText tools"]
        assert streamed["content"] == f"Let me see.{seen}"
        assert streamed["reason"] == "stop"
        assert "tool-result" in streamed["kinds"]
        assert "error" not in streamed["kinds"]
        assert any("it will not" in text for text in told["streamText broken"]["problems"])
        left = [s for s in await site.sessions() if s["agent"] == "gated"]
        assert len(left) == 2
        for session in left:
            ended = await site.until(session["session_id"], "run.cancelled")
            assert ended["reason"] == "disconnect"
        assert {s["status"] for s in await site.sessions()} == {"idle"}
