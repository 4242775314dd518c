"""The keys of a graph's state: names with a type, a default and a way to merge writes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar, cast, overload

import orjson
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from runtime.errors import CheckpointUnwritable, UpdateInvalid
from runtime.plain import parsed, plain

__all__ = ["JSON_ATOMS", "Key", "ListKey", "isolated"]

T = TypeVar("T")
U = TypeVar("U")

ATOMS = frozenset({str, int, bool, float, type(None)})
JSON_ATOMS = frozenset({int, bool, type(None)})
"""What is JSON as it is: a text may hold what is no Unicode, and a float may be no number."""

_CONTAINERS = frozenset({dict, list, tuple, set})
_CONFIG = ConfigDict(
    arbitrary_types_allowed=True,
    ser_json_bytes="base64",
    val_json_bytes="base64",
    ser_json_inf_nan="strings",  # a null would not be read back as a number
)


class Key(Generic[T]):
    """A value of the state. Without a reducer, one node of a superstep may set it.

    Two keys are the same only if they are one object: declare them once, at the top of a module.

    Attributes:
        name: Its name, in updates and on the wire.
        default: What is read while nobody has written it.
        reducer: Makes the new value of the old one and of what was written; None replaces it.
    """

    appends = False
    """Whether writes are appended: see `ListKey`."""

    replaces: bool
    """Whether a write takes the place of the value."""

    atom: type | None
    """The class of which every value is kept as it is, without a further look."""

    @overload
    def __init__(
        self: Key[U | None],
        name: str,
        default: None,
        *,
        type: type[U],
        reducer: Callable[[U | None, U], U] | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        default: T,
        *,
        type: Any = None,
        reducer: Callable[[T, T], T] | None = None,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        default: Any,
        *,
        type: Any = None,
        reducer: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        """Declare a key.

        Args:
            name: Its name.
            default: What is read while nobody has written it; not checked.
            type: What may be written, any annotation that pydantic knows; by default the class of
                `default`, and anything at all if that is None.
            reducer: Merges what is written into the value. Writes of one superstep are merged in
                the order in which the nodes were declared.
        """
        if type is None:
            type = Any if default is None else default.__class__  # noqa: A001 - the public name
        self.name = name
        self.default: T = default
        self.reducer = reducer
        self._type = type
        self._adapter = _adapter(type)
        self.atom = type if type in ATOMS else None
        self.replaces = reducer is None

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.name!r})"

    @property
    def holds_text(self) -> bool:
        """Whether its value is a text."""
        return self._type is str and not self.appends

    def check(self, value: Any) -> Any:
        """Return what is kept of a written value: pydantic's strict reading, containers copied.

        Raises:
            UpdateInvalid: If it is not of the key's type.
        """
        return self._check(value)

    def check_update(self, value: Any) -> Any:
        """Return what a mapping of updates writes: the value, or for a list key the items.

        Raises:
            UpdateInvalid: If it does not fit.
        """
        return self._check(value)

    def load(self, data: Any, *, strict: bool = False) -> Any:
        """Return what `dump` or `store` was given.

        Args:
            data: Plain JSON data.
            strict: Take no number for a text, and the like: for data that we did not write.

        Raises:
            UpdateInvalid: If it does not fit the key's type.
        """
        return self._load(data, strict=strict)

    def dump(self, value: Any) -> Any:
        """Return a value as plain JSON for an event; what cannot be written is a placeholder."""
        return self._dump(value)

    def store(self, value: Any) -> Any:
        """Return a value as plain JSON from which `load` makes it again.

        Raises:
            CheckpointUnwritable: If it cannot be written.
        """
        return self._store(value)

    def read(self, value: Any) -> T:
        """Return a kept value as nodes see it: they may change what they are given."""
        return cast("T", value if value.__class__ is self.atom else isolated(value))

    # --- one value, or one item of a list -------------------------------------------------------

    def _check(self, value: Any) -> Any:
        if value.__class__ is self._type and self._type in ATOMS:
            return value
        try:
            return isolated(self._adapter.validate_python(value, strict=True))
        except ValidationError as error:
            raise UpdateInvalid(self.name, _problem(error)) from error

    def _load(self, data: Any, *, strict: bool) -> Any:
        if data.__class__ is self._type and self._type in ATOMS:
            return data
        try:
            return self._adapter.validate_json(orjson.dumps(data), strict=strict)
        except ValidationError as error:
            raise UpdateInvalid(self.name, _problem(error)) from error

    def _dump(self, value: Any) -> Any:
        kind = value.__class__
        if kind in JSON_ATOMS or (kind is str and value.isascii()):
            return value
        try:
            return self._store(value)
        except CheckpointUnwritable:
            return plain(value, f"key {self.name!r}")

    def _store(self, value: Any) -> Any:
        try:
            return parsed(self._adapter.dump_json(value, warnings="none"))
        except ValueError as error:  # pydantic's, or the parser's
            raise CheckpointUnwritable(self.name, f"it is a {type(value).__name__}") from error


class ListKey(Key[list[T]]):
    """A list that nodes append to; all that is appended in one superstep is kept.

    The items of one superstep stand in the order in which their nodes were declared, whichever was
    done first.
    """

    appends = True

    @overload
    def __init__(self, name: str, type: type[T]) -> None: ...
    @overload
    def __init__(self, name: str, type: Any = Any) -> None: ...
    def __init__(self, name: str, type: Any = Any) -> None:
        """Declare a list; `type` is that of its items."""
        super().__init__(name, cast("list[T]", ()), type=type)
        self._atom = self.atom
        self.atom = None
        self.replaces = False

    def check(self, value: Any) -> Any:
        """Refuse: a list is appended to.

        Raises:
            UpdateInvalid: Always.
        """
        raise UpdateInvalid(self.name, "it is a list: use append")

    def check_items(self, values: Iterable[Any]) -> tuple[Any, ...]:
        """Return what is kept of appended items.

        Raises:
            UpdateInvalid: If one is not of the items' type.
        """
        return tuple(map(self._check, values))

    def check_update(self, value: Any) -> tuple[Any, ...]:
        """Return the items that a mapping of updates appends.

        Raises:
            UpdateInvalid: If it is no list, or an item is not of the items' type.
        """
        if not isinstance(value, list | tuple):
            raise UpdateInvalid(
                self.name, f"it is a list: give the items to append, not {_class(value)}"
            )
        wanted = self._atom
        return tuple([x if x.__class__ is wanted else self._check(x) for x in value])

    def load(self, data: Any, *, strict: bool = False) -> Any:
        """Return the items that were dumped."""
        if not isinstance(data, list | tuple):
            raise UpdateInvalid(self.name, f"a list was kept, not {_class(data)}")
        return tuple([self._load(item, strict=strict) for item in data])

    def dump(self, value: Any) -> Any:
        """Return the items as plain JSON."""
        dump = self._dump
        return [
            x if x.__class__ in JSON_ATOMS or (x.__class__ is str and x.isascii()) else dump(x)
            for x in value
        ]

    def store(self, value: Any) -> Any:
        """Return the items as plain JSON from which `load` makes them again."""
        return list(map(self._store, value))

    def read(self, value: Any) -> list[T]:
        """Return the items in a list of the reader's own."""
        return list(map(isolated, value))


def isolated(value: Any) -> Any:
    """Return a value whose dicts, lists, tuples and sets are copies; what is in them is shared."""
    kind = value.__class__
    if kind in ATOMS or kind not in _CONTAINERS:
        return value
    if kind is dict:
        return {name: isolated(part) for name, part in value.items()}
    if kind is set:
        return set(value)
    return kind([isolated(part) for part in value])


def _adapter(type_: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(type_, config=_CONFIG)
    except PydanticUserError:  # a model or dataclass, which has a configuration of its own
        return TypeAdapter(type_)


def _problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}".removeprefix(": ")
        for problem in problems
    )


def _class(value: Any) -> str:
    return f"a {type(value).__name__}"
