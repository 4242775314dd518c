"""Structured output: what a model is told about it, and how its answer is read. Pure."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import from_json, to_json

from runtime.errors import OutputParseError
from runtime.models.base import ModelRequest

__all__ = ["OutputFormat"]

_FENCE = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)\n?[ \t]*```", re.DOTALL)
_WRAPPED = "result"


class OutputFormat:
    """The type of an agent's answers.

    Providers want the schema of an object. Any other type is asked for as an object with one field,
    and read with or without it.

    Attributes:
        name: What the answer is, for providers and errors.
        schema: The JSON Schema that the model is told.
    """

    def __init__(self, output_type: Any) -> None:
        """Take a type, as `pydantic.TypeAdapter` does.

        Raises:
            TypeError: If it cannot be written as JSON.
        """
        own_name = getattr(output_type, "__name__", None) or "answer"
        self.name = re.sub(r"[^A-Za-z0-9_-]", "_", own_name)[:64]
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(output_type)
            schema = self._adapter.json_schema()
        except PydanticUserError as error:
            raise TypeError(f"the output type {own_name} cannot be written as JSON") from error
        self._wrapped = not _is_object(schema)
        if self._wrapped:
            definitions = schema.pop("$defs", None)
            schema = {
                "type": "object",
                "properties": {_WRAPPED: schema},
                "required": [_WRAPPED],
                "additionalProperties": False,
                **({"$defs": definitions} if definitions else {}),
            }
        self.schema = schema

    def ask(self, request: ModelRequest) -> ModelRequest:
        """Return a request that tells the model about this type."""
        return replace(request, output_schema=self.schema, output_name=self.name)

    def parse(self, text: str) -> tuple[Any, Any]:
        """Return what an answer says: as an object of the type, and as plain JSON data.

        The answer may stand in a fenced block, with words around it.

        Raises:
            OutputParseError: If it does not fit; the error has the text.
        """
        fenced = [match[1] for match in _FENCE.finditer(text)]
        problem = ""
        for candidate in (text.strip(), *reversed(fenced)):
            try:
                parsed = self._adapter.validate_json(self._unwrapped(candidate))
            except ValidationError as error:
                problem = "; ".join(
                    f"{'.'.join(map(str, told['loc']))}: {told['msg']}".removeprefix(": ")
                    for told in error.errors(include_url=False, include_input=False)
                )
            else:
                return parsed, self._adapter.dump_python(parsed, mode="json")
        raise OutputParseError(self.name, problem, text)

    def _unwrapped(self, text: str) -> str | bytes:
        if not self._wrapped:
            return text
        try:
            value = from_json(text)
        except ValueError:
            return text
        if isinstance(value, dict) and value.keys() == {_WRAPPED}:
            return to_json(value[_WRAPPED])
        return text


def _is_object(schema: dict[str, Any]) -> bool:
    """Tell whether all that fits a schema are objects."""
    reference = schema.get("$ref", "")
    if reference.startswith("#/$defs/"):
        return _is_object(schema["$defs"][reference.removeprefix("#/$defs/")])
    return schema.get("type") == "object"
