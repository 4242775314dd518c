"""How providers want to be told the schema that an answer is to fit. Pure.

Providers guarantee only a part of JSON Schema. Most schemas can be brought into it: what fits the
narrower schema fits the one that was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["guaranteed", "narrowed", "without_limits"]

NAME_LENGTH = 64
"""The most that OpenAI takes, of letters, digits, `_` and `-`."""

_SILENT = frozenset({"default", "discriminator", "examples", "title"})
"""What says nothing of which values fit."""

_INSIDE = frozenset({"properties", "$defs", "definitions"})
"""What holds schemas by name."""

_OUTSIDE = frozenset(
    {
        "allOf",
        "contains",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "if",
        "maxProperties",
        "minProperties",
        "not",
        "oneOf",
        "patternProperties",
        "prefixItems",
        "propertyNames",
        "then",
    }
)
"""What no provider guarantees."""

_LIMITS = frozenset(
    {
        "exclusiveMaximum",
        "exclusiveMinimum",
        "format",
        "maxItems",
        "maxLength",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "multipleOf",
        "pattern",
        "uniqueItems",
    }
)


_SAYING = frozenset({"$ref", "anyOf", "const", "enum", "properties", "type"})
"""One of these has to be in every schema: anything at all is not guaranteed."""


class _NotGuaranteed(Exception):
    """The schema cannot be brought into the part that providers guarantee."""


def narrowed(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a schema that providers can guarantee, and whose values all fit the given one.

    In it, an object holds all that it may hold, and nothing else. None if there is no such schema:
    for objects with keys of any name, and for what only other keywords can say.
    """
    try:
        return _narrowed(schema)
    except _NotGuaranteed:
        return None


def guaranteed(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return how OpenAI is told a schema: with the wish for a guarantee where there can be one."""
    narrow = narrowed(schema) if schema.get("type") == "object" else None
    return {
        "name": _name(name),
        "schema": dict(schema) if narrow is None else narrow,
        "strict": narrow is not None,
    }


def without_limits(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema whose limits of numbers, texts and lists are in its descriptions only."""
    kept = _mapped(schema, without_limits)
    limits = {key: kept.pop(key) for key in sorted(_LIMITS & schema.keys())}
    if limits:
        told = ", ".join(f"{key}: {value}" for key, value in limits.items())
        kept["description"] = f"{kept.get('description', '')} ({told})".lstrip()
    return kept


def _narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "discriminator" in schema and "oneOf" in schema:  # no value fits two of them
        schema = {**schema, "anyOf": schema["oneOf"]}
        del schema["oneOf"]
    if _OUTSIDE & schema.keys() or not _SAYING & schema.keys():
        raise _NotGuaranteed
    said = {key: value for key, value in schema.items() if key not in _SILENT}
    if "$ref" in said:  # providers want it alone
        said = {key: said[key] for key in ("$ref", "$defs", "definitions") if key in said}
    narrow = _mapped(said, _narrowed)
    if narrow.get("type") == "object" or "properties" in narrow:
        if "properties" not in narrow:
            raise _NotGuaranteed
        narrow["required"] = list(narrow["properties"])
        narrow["additionalProperties"] = False
    return narrow


def _mapped(
    schema: Mapping[str, Any], change: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Return a schema with all schemas right inside it changed."""
    mapped: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _INSIDE:
            mapped[key] = {name: change(_schema(part)) for name, part in value.items()}
        elif key == "anyOf":
            mapped[key] = [change(_schema(part)) for part in value]
        elif key == "items":
            mapped[key] = change(_schema(value))
        else:
            mapped[key] = value
    return mapped


def _name(name: str) -> str:
    """Return a name as OpenAI takes it."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:NAME_LENGTH] or "answer"


def _schema(part: object) -> Mapping[str, Any]:
    """Return a schema inside another one; `true` and `false` are some too."""
    if not isinstance(part, Mapping):
        raise _NotGuaranteed
    return part
