"""Answers of a type: what the model is told, and what is made of its text."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from runtime import Agent, ScriptedModel
from runtime.errors import OutputParseError
from runtime.events import RunCompleted, RunFailed
from runtime.models.scripted import say
from tests.runtime.support import run


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: float = Field(description="In Celsius.")
    tags: tuple[str, ...] = ()


JSON = '{"city": "Bern", "degrees": 21, "tags": ["dry"]}'


async def answered(text: str, output_type: Any) -> RunCompleted:
    log = await run(Agent("a", ScriptedModel([say(text)]), output_type=output_type))
    return log.one(RunCompleted)


@pytest.mark.rows("S43")
async def test_the_model_is_told_the_schema_and_the_end_has_the_object_and_its_json() -> None:
    model = ScriptedModel([say(JSON)])
    log = await run(Agent("a", model, output_type=Weather))
    (asked,) = model.requests
    assert asked.output_name == "Weather"
    assert asked.output_schema is not None
    assert asked.output_schema["properties"]["degrees"]["description"] == "In Celsius."
    end = log.one(RunCompleted)
    assert end.parsed == Weather(city="Bern", degrees=21.0, tags=("dry",))
    assert end.final_output == {"city": "Bern", "degrees": 21.0, "tags": ["dry"]}
    assert end.output == JSON
    assert "parsed" not in end.model_dump_json()


@pytest.mark.parametrize("output_type", [None, str])
async def test_without_a_type_nothing_is_told_and_nothing_is_parsed(output_type: Any) -> None:
    model = ScriptedModel([say(JSON)])
    end = (await run(Agent("a", model, output_type=output_type))).one(RunCompleted)
    assert model.requests[0].output_schema is None
    assert (end.parsed, end.final_output) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{JSON}\n```",
        f"```\n{JSON}\n```",
        f"Here it is:\n\n```json\n{JSON}\n```\n\nAnything else?",
        f"First I had\n```json\n{{}}\n```\nbut then\n```json\n{JSON}\n```",
        f'First I had\n```json\n{{"city": "Rome", "degrees": 1}}\n```\nbut\n```json\n{JSON}\n```',
        f"  \n{JSON}\n",
    ],
)
async def test_an_answer_may_stand_in_a_fenced_block(text: str) -> None:
    assert (await answered(text, Weather)).parsed.city == "Bern"


@pytest.mark.parametrize(
    ("output_type", "text", "parsed"),
    [
        (list[int], '{"result": [1, 2]}', [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (int, '```json\n{"result": 3}\n```', 3),
        (dict[str, int], '{"result": 3}', {"result": 3}),
        (Weather | None, f'{{"result": {JSON}}}', Weather(city="Bern", degrees=21, tags=("dry",))),
        (Weather | None, '{"result": null}', None),
    ],
)
async def test_any_type_is_asked_for_as_an_object_and_read_as_itself(
    output_type: Any, text: str, parsed: Any
) -> None:
    model = ScriptedModel([say(text)])
    end = (await run(Agent("a", model, output_type=output_type))).one(RunCompleted)
    assert end.parsed == parsed
    schema = model.requests[0].output_schema
    assert schema is not None
    assert schema["type"] == "object"
    assert "$defs" not in schema.get("properties", {}).get("result", {})


@pytest.mark.rows("S43")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("It is sunny.", "Invalid JSON"),
        ('{"city": "Bern"}', "degrees: Field required"),
        ("", "Invalid JSON"),
    ],
)
async def test_an_answer_that_does_not_fit_fails_the_run_and_the_error_has_its_text(
    text: str, problem: str
) -> None:
    log = await run(Agent("a", ScriptedModel([say(text)]), output_type=Weather))
    end = log.one(RunFailed)
    assert end.error.code == "output_unparsable"
    assert problem in end.error.message
    assert isinstance(end.exception, OutputParseError)
    assert end.exception.text == text


def test_a_type_that_cannot_be_written_as_json_is_refused_when_the_agent_is_made() -> None:
    class Odd:
        pass

    with pytest.raises(TypeError, match="Odd cannot be written as JSON"):
        Agent("a", ScriptedModel([]), output_type=Odd)
