"""Responses as other people's clients get them: from npm, and OpenAI's own framework for agents."""

from __future__ import annotations

from typing import Any

import agents

from runtime.agent import Agent
from runtime.errors import ModelRefused
from runtime.models.scripted import ScriptedModel
from tests.frontends.responses_support import keeper, responses_site
from tests.support.chat_site import Gated, counter, looker
from tests.support.node import told_by


async def test_the_clients_of_the_javascript_world_get_responses() -> None:
    broken = ScriptedModel(lambda request: ["Hello", ModelRefused("it will not")])
    agents = (counter(), looker(), keeper(), Gated().agent, Agent("broken", broken))
    async with responses_site(*agents) as site:
        told = {line.pop("name"): line for line in await told_by("responses.mjs", site.url)}
        answer = "I add.It is 4."
        streamed = told["streamed"]
        assert (streamed["text"], streamed["output"]) == (answer, answer)
        assert streamed["kinds"] == ["reasoning", "message", "mcp_call", "reasoning", "message"]
        assert streamed["last"] == "response.completed"
        assert told["calledBack"] == {"output": "I saw the sea and the sky."}
        assert told["resumed"] == {"same": True, "output": answer}
        assert told["ended"] == {
            "failed": "failed",
            "cancelled": ["cancelled", "Hello"],
            "refused": ["NotFoundError", "model_not_found"],
        }
        sdk = told["aiSdk"]
        assert sdk["errors"] == []
        assert sdk["texts"] == [
            "I saw the sea and the sky.",
            "I saw the sea and the sky and the land.",
        ]
        assert sdk["steps"] == ["tool-calls", "stop"]
        # All of its steps, and those of the next question, were in one session.
        sessions = [name.partition(".")[0] for name in sdk["ids"] + sdk["next"]]
        assert (len(sessions), len(set(sessions))) == (4, 1)
        assert told["aiSdkServerTools"] == {
            "text": answer,
            "reasoning": "Two and two.Easy now.",
            "call": ["mcp.add", {"a": 2, "b": 2}],
            "result": "4",
            "reason": "stop",
            "usage": True,
        }
        assert told["aiSdkApproval"]["text"] == "Told: t is gone"
        assert told["aiSdkFailure"]["reason"] == "error"
        assert "it will not" in told["aiSdkFailure"]["errors"][0]


async def test_openais_framework_for_agents_has_our_agents_for_models() -> None:
    agents.set_tracing_disabled(True)

    @agents.function_tool
    def look(place: str) -> str:
        """Look at a place."""
        return f"the {place}"

    async with responses_site(looker()) as site:
        model = agents.OpenAIResponsesModel("looker", site.ai)
        guide = agents.Agent(name="guide", instructions="Look well.", tools=[look], model=model)
        first = await agents.Runner.run(guide, "sea sky")
        assert first.final_output == "I saw the sea and the sky."
        more: list[Any] = [*first.to_input_list(), {"role": "user", "content": "land"}]
        streamed = agents.Runner.run_streamed(guide, more)
        async for _ in streamed.stream_events():
            pass
        assert streamed.final_output == "I saw the sea and the sky and the land."
        assert len(await site.sessions()) == 1
        chained = await agents.Runner.run(
            guide, "moon", previous_response_id=streamed.last_response_id
        )
        assert chained.final_output.endswith("the land and the moon.")
        assert len(await site.sessions()) == 1
