"""What methods take: their parameters, by the SDK's types."""

from __future__ import annotations

from typing import Protocol, TypeVar

from a2a.utils.errors import InvalidParamsError
from a2a.utils.proto_utils import parse_lenient, validate_proto_required_fields
from google.protobuf.json_format import ParseError
from google.protobuf.message import Message

from gateway.codecs.a2a.objects import Json

__all__ = ["history_of", "params_of"]

P = TypeVar("P", bound=Message)


class _Shows(Protocol):
    """A request that may say how much history it wants to see."""

    history_length: int

    def HasField(self, field_name: str) -> bool: ...  # noqa: N802 - protobuf's own name


def params_of(params: Json, kind: type[P]) -> P:
    """Return a request's parameters; fields of newer versions are ignored.

    Raises:
        InvalidParamsError: If they are not what the method takes.
    """
    try:
        request = parse_lenient(params, kind())
    except (ParseError, ValueError, TypeError, AttributeError) as error:
        raise InvalidParamsError(str(error)) from error
    validate_proto_required_fields(request)
    return request


def history_of(asked: _Shows) -> int | None:
    """Return how many messages of the history a client wants to see; None for all.

    Raises:
        InvalidParamsError: If it is less than none.
    """
    if not asked.HasField("history_length"):
        return None
    if asked.history_length < 0:
        raise InvalidParamsError("`historyLength` is 0 or more")
    return asked.history_length
