"""`echo` and `tools`: streaming, tools and approvals without a key, the same every time."""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from runtime.agent import Agent
from runtime.messages import Message, ToolCall
from runtime.models.base import ModelRequest
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.runnable import RunOptions
from runtime.tools import ToolContext, tool

__all__ = ["SECONDS_PER_WORD", "EchoOptions", "delete_file", "echo", "get_weather", "tools"]

SECONDS_PER_WORD = 0.03
"""Pace of scripted speech: fast reading speed, so that streaming can be seen."""


class EchoOptions(RunOptions):
    """Options of `echo`."""

    interval_ms: float = Field(
        default=20, ge=0, le=60_000, description="Milliseconds between two words."
    )


SKIES = ("clear sky", "scattered clouds", "light rain", "fresh breeze", "morning fog")


@tool
async def get_weather(
    context: ToolContext, city: Annotated[str, Field(description="Name of the city.")]
) -> dict[str, Any]:
    """Tell today's weather in a city. A demonstration: the weather is made up from the name."""
    stages = ("looking up the city", "asking the weather station", "reading the answer")
    for done, stage in enumerate(stages, start=1):
        await asyncio.sleep(0.25)
        await context.progress(
            {"stage": stage, "progress": done / len(stages), "message": f"{city}: {stage}"}
        )
    chance = zlib.crc32(city.strip().lower().encode())
    return {"city": city, "temperature_c": chance % 34 - 4, "sky": SKIES[chance % len(SKIES)]}


@tool(needs_approval=True)
async def delete_file(
    path: Annotated[str, Field(description="The file to delete.")],
) -> dict[str, Any]:
    """Delete a file, once a human has approved. A demonstration: no file is touched."""
    return {"deleted": path, "note": "demonstration: no file was touched"}


def echo() -> Agent:
    """Return the agent that streams what is said to it."""
    return Agent(
        "echo",
        ScriptedModel(_echo_script, name="scripted-echo"),
        description="Scripted. Streams what you say back to you, word by word.",
        options_type=EchoOptions,
    )


def _echo_script(request: ModelRequest) -> Iterable[Cue]:
    interval = request.options.interval_ms if isinstance(request.options, EchoOptions) else 20.0
    return say(_last_input(request), seconds_per_word=interval / 1000)


def tools() -> Agent:
    """Return the agent that shows tools and approvals."""
    return Agent(
        "tools",
        ScriptedModel(_tools_script, name="scripted-tools"),
        tools=(get_weather, delete_file),
        description="Scripted. Shows parallel tools (“weather in Oslo and Rome”) and approvals "
        "(“delete notes.txt”).",
    )


def _tools_script(request: ModelRequest) -> Iterable[Cue]:
    answers = _tool_answers(request)
    if answers:
        return say(_report(answers), seconds_per_word=SECONDS_PER_WORD)
    said = _last_input(request).strip()
    if said.lower().startswith("delete "):
        return call_tools(
            _call(request, 0, "delete_file", {"path": said[len("delete ") :].strip()})
        )
    asked = re.search(r"weather\s+in\s+(.+)", said, re.IGNORECASE | re.DOTALL)
    if asked:
        cities = re.split(r"\s*,\s*|\s+and\s+", asked[1].strip().rstrip("?!. "))
        calls = [
            _call(request, index, "get_weather", {"city": city})
            for index, city in enumerate(city for city in cities if city)
        ]
        return call_tools(*calls)
    wanted = re.fullmatch(r"call (\S+)", said)
    if wanted and any(tool.name == wanted[1] for tool in request.tools):  # one of the client's
        return call_tools(_call(request, 0, wanted[1], {}))
    return say(
        "I am a script that shows tools. Say “weather in Oslo and Rome” to see two tools run side "
        "by side, or “delete notes.txt” to be asked for approval first.",
        seconds_per_word=SECONDS_PER_WORD,
    )


def _call(request: ModelRequest, index: int, name: str, arguments: dict[str, str]) -> ToolCall:
    call_id = f"call_{len(request.messages)}_{index}"
    return ToolCall(id=call_id, name=name, arguments=json.dumps(arguments, ensure_ascii=False))


def _last_input(request: ModelRequest) -> str:
    return next((m.content for m in reversed(request.messages) if m.role == "user"), "")


def _tool_answers(request: ModelRequest) -> list[Message]:
    """Return the tool messages that end the conversation."""
    answers: list[Message] = []
    for message in reversed(request.messages):
        if message.role != "tool":
            break
        answers.insert(0, message)
    return answers


def _report(answers: list[Message]) -> str:
    sentences: list[str] = []
    for answer in answers:
        try:
            result = json.loads(answer.content)
        except ValueError:
            sentences.append(f"That did not work: {answer.content.removeprefix('error: ')}.")
            continue
        if not isinstance(result, dict) or not result.keys() & {"deleted", "city"}:
            sentences.append(f"The answer is {answer.content}.")  # what a tool of the client's said
        elif "deleted" in result:
            sentences.append(f"Done: {result['deleted']} is deleted (only for show).")
        else:
            sentences.append(f"{result['city']}: {result['temperature_c']} °C, {result['sky']}.")
    return " ".join(sentences)
