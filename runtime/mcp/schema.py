"""From what an MCP server says of its tools, and answers, to what an agent needs. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import SchemaError
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for
from mcp_types import CallToolResult, TextContent
from referencing import Registry
from referencing.exceptions import Unresolvable

from runtime.errors import ArgumentsInvalid, ToolFailed
from runtime.tools.signature import Signature

__all__ = ["McpSignature", "result_of", "signature_of", "tool_name"]

_ILLEGAL = re.compile(r"[^A-Za-z0-9_-]")
LONGEST = 64
"""Characters that a tool's name may have at OpenAI and Anthropic."""


def tool_name(name: str, prefix: str = "") -> str:
    """Return a name that providers take: what they do not take becomes `_`.

    A name that is too long is cut, and made unique again by eight digits of its hash.
    """
    legal = _ILLEGAL.sub("_", f"{prefix}{name}") or "_"
    if len(legal) <= LONGEST:
        return legal
    digest = hashlib.sha256(legal.encode()).hexdigest()[:8]
    return f"{legal[: LONGEST - len(digest) - 1]}_{digest}"


@dataclass(frozen=True, slots=True)
class McpSignature(Signature):
    """How a server's tool is called: with a JSON object that fits its schema."""

    validator: Validator

    def check(self, values: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments, checked; what cannot be checked here, the server checks.

        Raises:
            ArgumentsInvalid: If they do not fit.
        """
        try:
            problems = [
                ".".join(map(str, error.absolute_path)) + ": " * bool(error.path) + error.message
                for error in self.validator.iter_errors(values)
            ]
        except Unresolvable:  # a part of the schema is in another document
            problems = []
        if problems:
            raise ArgumentsInvalid(f"the arguments do not fit: {'; '.join(problems)}")
        return values


def signature_of(schema: Mapping[str, Any], description: str) -> McpSignature:
    """Return how a tool with this schema is called.

    Raises:
        ValueError: If it is no JSON Schema.
    """
    parameters = {"properties": {}, **schema}
    kind = validator_for(parameters)
    try:
        kind.check_schema(parameters)
    except SchemaError as error:
        raise ValueError(f"its schema is not valid: {error.message}") from error
    return McpSignature(
        description=description,
        arguments=parameters,
        parameters=None,
        context=None,
        validator=kind(parameters, registry=Registry()),  # which follows no address
    )


def result_of(name: str, answer: CallToolResult) -> Any:
    """Return what a tool answered, as plain JSON data.

    Text alone is a string. Structured content goes before the text, which repeats it. Images,
    sounds and resources come as MCP writes them, in a list with the texts.

    Raises:
        ToolFailed: If the answer says that the tool failed, with the answer's text.
    """
    texts = [block.text for block in answer.content if isinstance(block, TextContent)]
    text = "\n".join(texts)
    if answer.is_error:
        raise ToolFailed(text or f"the tool {name!r} failed and did not say why")
    structured = answer.structured_content
    if len(texts) < len(answer.content):
        blocks = [
            block.model_dump(mode="json", by_alias=True, exclude_none=True)
            for block in answer.content
        ]
        return blocks if structured is None else {"content": blocks, "structured": structured}
    # Servers wrap what is no object in one; when it is the text itself, the text says it best.
    if structured is None or structured == {"result": text}:
        return text
    return structured
