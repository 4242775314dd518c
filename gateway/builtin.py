"""The agents that `tidegate serve` offers when it is not given any.

`assistant` talks to a real model. `echo` and `tools` are scripted, and say so: they show streaming,
tools and approvals without a key, and exactly the same every time.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from gateway.config import Settings
from gateway.errors import StartupRefused
from runtime.agent import Agent
from runtime.messages import Message, ToolCall
from runtime.models.base import Model, ModelRequest
from runtime.models.local import LocalModel
from runtime.models.openai import OpenAIModel
from runtime.models.scripted import Cue, ScriptedModel, call_tools, say
from runtime.registry import Registry
from runtime.runnable import RunOptions
from runtime.tools import ToolContext, tool

__all__ = ["EchoOptions", "build_registry", "delete_file", "get_weather"]

DEFAULT_HOSTED_MODEL = "gpt-5-mini"
"""Used when a key or an address is configured, but no model is named."""

INSTRUCTIONS = "You are a friendly, helpful assistant. Answer clearly and briefly."

LOCAL_INSTRUCTIONS = "You are a helpful assistant. Answer using what the user said before."
"""For the small model, which forgets: with these words it used a fact from the turn before in 11 of
18 tries, with `INSTRUCTIONS` in 9, with none in 7."""

SECONDS_PER_WORD = 0.03
"""Pace of the scripted `tools` agent: fast reading speed, so that streaming can be seen."""


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


def build_registry(settings: Settings) -> Registry:
    """Return the built-in agents; the first is the default.

    Raises:
        StartupRefused: If the model that the settings name cannot be had.
    """
    return Registry(_assistant(settings), _echo(), _tools())


def _assistant(settings: Settings) -> Agent:
    if settings.openai_api_key is not None or settings.openai_base_url is not None:
        key = settings.openai_api_key
        model: Model = OpenAIModel(
            settings.model or DEFAULT_HOSTED_MODEL,
            base_url=settings.openai_base_url,
            api_key=key.get_secret_value() if key is not None else None,
        )
        return Agent(
            "assistant",
            model,
            instructions=INSTRUCTIONS,
            tools=(get_weather, delete_file),
            description=f"Chats through {model.name}, and can use the demonstration tools.",
        )
    local = LocalModel() if settings.model is None else _local_model(Path(settings.model))
    return Agent(
        "assistant",
        local,
        instructions=LOCAL_INSTRUCTIONS,
        description=f"A small real model ({local.name}) that runs on this machine. Plain chat.",
    )


def _local_model(path: Path) -> LocalModel:
    """Return the model of a GGUF file."""
    if path.suffix != ".gguf" or not path.is_file():
        raise StartupRefused(
            f"model {str(path)!r} is no GGUF file; for a hosted model set OPENAI_API_KEY or "
            "TIDEGATE_OPENAI_BASE_URL too"
        )
    return LocalModel(path.stem, path)


def _echo() -> Agent:
    return Agent(
        "echo",
        ScriptedModel(_echo_script, name="scripted-echo"),
        description="Scripted. Streams what you say back to you, word by word.",
        options_type=EchoOptions,
    )


def _echo_script(request: ModelRequest) -> Iterable[Cue]:
    interval = request.options.interval_ms if isinstance(request.options, EchoOptions) else 20.0
    return say(_last_input(request), seconds_per_word=interval / 1000)


def _tools() -> Agent:
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
        if "deleted" in result:
            sentences.append(f"Done: {result['deleted']} is deleted (only for show).")
        else:
            sentences.append(f"{result['city']}: {result['temperature_c']} °C, {result['sky']}.")
    return " ".join(sentences)
