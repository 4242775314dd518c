"""From a typed function to the arguments that a model may give it. Reads no values, runs nothing.

The parameters become a pydantic model, and the model a JSON Schema. A parameter is described by
`Annotated[..., Field(description=...)]` or by the `Args:` section of a Google-style docstring.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from runtime.tools.context import ToolContext

__all__ = ["Params", "Signature", "json_schema", "signature", "whole"]

Params = type[BaseModel] | Mapping[str, Any]
"""What a tool takes: a pydantic model; or a JSON Schema, and then only "is an object" is checked."""

_SECTION = re.compile(r"^(Args|Arguments|Returns|Raises|Yields|Examples?|Notes?|Attributes):\s*$")
_PARAMETER = re.compile(r"^(?P<name>\w+)\s*(\([^)]*\))?:\s*(?P<text>.*)$")


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called by a model.

    Attributes:
        description: The docstring up to its first section.
        arguments: Holds the arguments of one call, or describes them.
        parameters: From attributes of `arguments` to parameters of the function. They differ only
            where pydantic needs the name for itself, as with `json` or `copy`. None for a function
            that takes the context and all arguments as one object.
        context: The parameter that takes the `ToolContext`, if there is one.
    """

    description: str
    arguments: Params
    parameters: Mapping[str, str] | None
    context: str | None

    def check(self, values: dict[str, Any]) -> Any:
        """Return the arguments of a call as the function is to be given them.

        Raises:
            pydantic.ValidationError: If they do not fit.
        """
        if isinstance(self.arguments, Mapping):
            return values
        return self.arguments.model_validate(values)

    def bind(
        self, function: Callable[..., Any], arguments: Any, context: ToolContext
    ) -> Callable[[], Any]:
        """Return the function with its arguments; they are what `check` returned."""
        if self.parameters is None:
            return partial(function, context, arguments)
        values = {
            parameter: getattr(arguments, attribute)
            for attribute, parameter in self.parameters.items()
        }
        if self.context is not None:
            values[self.context] = context
        return partial(function, **values)


def whole(function: Callable[..., Any], params: Params, name: str) -> Signature:
    """Describe a function that is called as `function(context, arguments)`.

    Raises:
        TypeError: If it is no function, or `params` cannot be written as JSON.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"tool {name!r}: {function!r} is no function")
    if not isinstance(params, Mapping):
        try:
            json_schema(params)
        except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
            raise TypeError(
                f"tool {name!r}: a parameter cannot be written as JSON: {error}"
            ) from error
    return Signature(inspect.getdoc(function) or "", params, None, None)


def signature(function: Callable[..., Any], name: str) -> Signature:
    """Read a function.

    Raises:
        TypeError: If it is no function, or a parameter has no type, or one that cannot be written
            as JSON, or cannot be given by name.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise TypeError(f"tool {name!r}: {function!r} is no function")
    description, described = _docstring(inspect.getdoc(function) or "")
    hints = _hints(function, name)
    fields: dict[str, Any] = {}
    parameters: dict[str, str] = {}
    context: str | None = None
    for parameter in inspect.signature(function).parameters.values():
        if hints.get(parameter.name) is ToolContext:
            context = parameter.name
            continue
        _check(parameter, hints, name)
        attribute = f"{parameter.name}_" if hasattr(BaseModel, parameter.name) else parameter.name
        parameters[attribute] = parameter.name
        fields[attribute] = _field(parameter, hints[parameter.name], described, attribute)
    try:
        arguments = create_model(
            name,
            __config__=ConfigDict(frozen=True, extra="forbid", protected_namespaces=()),
            **fields,
        )
        json_schema(arguments)
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema) as error:
        raise TypeError(f"tool {name!r}: a parameter cannot be written as JSON: {error}") from error
    return Signature(description, arguments, parameters, context)


class _WithoutTitles(GenerateJsonSchema):
    """A title only repeats the name, and costs tokens."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema(arguments: Params) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments, as providers want it."""
    if isinstance(arguments, Mapping):
        return {"type": "object", "properties": {}, **arguments}
    schema = arguments.model_json_schema(schema_generator=_WithoutTitles)
    schema.pop("title", None)
    schema.setdefault("properties", {})
    return schema


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"tool {name!r}: the type {error.name!r} cannot be found; define or import it at the "
            "top of the module"
        ) from error


def _check(parameter: inspect.Parameter, hints: Mapping[str, Any], name: str) -> None:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if parameter.kind not in kinds:
        raise TypeError(
            f"tool {name!r}: parameter {parameter} cannot be given by name, as models do"
        )
    if parameter.name not in hints:
        raise TypeError(f"tool {name!r}: parameter {parameter.name!r} needs a type")
    if parameter.name.startswith("_"):
        raise TypeError(
            f"tool {name!r}: parameter {parameter.name!r} must not begin with an underscore"
        )


def _field(
    parameter: inspect.Parameter, hint: Any, described: Mapping[str, str], attribute: str
) -> tuple[Any, Any]:
    """Return type and default of one field."""
    default = ... if parameter.default is inspect.Parameter.empty else parameter.default
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    if not any(isinstance(m, FieldInfo) and m.description for m in (*metadata, default)):
        hint = Annotated[hint, Field(description=described.get(parameter.name))]
    if attribute != parameter.name:
        hint = Annotated[hint, Field(alias=parameter.name)]
    return hint, default


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Split a Google-style docstring into its description and the texts about its parameters."""
    description: list[str] = []
    described: dict[str, str] = {}
    section, current, indent = "", "", 0
    for line in text.splitlines():
        if heading := _SECTION.match(line):
            section, current = heading[1], ""
        elif not section:
            description.append(line)
        elif section in {"Args", "Arguments"} and line.strip():
            width = len(line) - len(line.lstrip())
            match = _PARAMETER.match(line.strip())
            if match and (not current or width <= indent):
                current, indent = match["name"], width
                described[current] = match["text"].strip()
            elif current:
                described[current] = f"{described[current]} {line.strip()}".strip()
    return "\n".join(description).strip(), described
