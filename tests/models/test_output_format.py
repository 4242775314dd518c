"""A schema is brought into the part of JSON Schema that providers guarantee, where it can be."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from runtime.models.output_format import guaranteed, narrowed, without_limits


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = Field(default=9, ge=0, le=9, description="How many are left.")


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str | None = None


class Home(BaseModel):
    """Where they live."""

    model_config = ConfigDict(extra="allow")
    color: Color = Field(default=Color.RED, description="Of the front.")
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]]
    next_door: Home | None = None


def check_strict(schema: object) -> None:
    """Check what providers demand of every schema, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            check_strict(part)
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        assert schema["additionalProperties"] is False
        assert schema["required"] == list(schema["properties"])
    assert "oneOf" not in schema
    assert not isinstance(schema.get("default"), int | str)
    assert "$ref" not in schema or set(schema) <= {"$ref", "$defs"}
    for part in schema.values():
        check_strict(part)


def test_a_model_with_defaults_unions_and_itself_inside_can_be_guaranteed() -> None:
    schema = narrowed(Home.model_json_schema())
    assert schema is not None
    check_strict(schema)
    assert set(schema["$defs"]) == {"Cat", "Color", "Dog", "Home"}
    home = schema["$defs"]["Home"]
    assert set(home["properties"]) == {"color", "pets", "next_door"}
    assert home["properties"]["pets"]["items"] == {
        "anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]
    }
    assert home["description"] == "Where they live."


def test_a_schema_that_is_narrow_already_is_left_alone() -> None:
    narrow = {
        "type": "object",
        "properties": {"title": {"type": "string"}, "default": {"type": "integer"}},
        "required": ["title", "default"],
        "additionalProperties": False,
    }
    assert narrowed(narrow) == narrow


@pytest.mark.parametrize(
    "kind",
    [dict[str, int], list[dict[str, int]], tuple[int, str], dict[str, int] | None, list[Any]],
    ids=str,
)
def test_what_cannot_be_guaranteed_is_told_so(kind: Any) -> None:
    assert narrowed(TypeAdapter(kind).json_schema()) is None


def test_schemas_that_are_no_objects_are_not_guaranteed() -> None:
    assert narrowed({"type": "array", "items": True}) is None
    assert narrowed({"type": "object", "properties": {"a": True}}) is None
    assert narrowed({}) is None


@pytest.mark.parametrize("keyword", ["allOf", "oneOf"])
def test_other_ways_to_combine_schemas_are_not_guaranteed(keyword: str) -> None:
    assert narrowed({"type": "array", "items": {keyword: [{"type": "string"}]}}) is None


def test_limits_go_into_the_descriptions() -> None:
    schema = without_limits(Cat.model_json_schema())
    assert schema["properties"]["lives"] == {
        "default": 9,
        "description": "How many are left. (maximum: 9, minimum: 0)",
        "title": "Lives",
        "type": "integer",
    }
    listed = without_limits({"type": "array", "minItems": 2, "items": {"maxLength": 3}})
    assert listed == {
        "type": "array",
        "items": {"description": "(maxLength: 3)"},
        "description": "(minItems: 2)",
    }


def test_a_name_is_made_of_letters_that_providers_take() -> None:
    names = ["List[Café]", "x" * 99, ""]
    told = [guaranteed({"type": "object"}, name)["name"] for name in names]
    assert told == ["List_Caf__", "x" * 64, "answer"]
