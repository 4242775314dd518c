"""What a node answers: writes to the state, and where to go next. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from runtime.errors import UpdateInvalid
from runtime.graph.keys import Key, ListKey

__all__ = ["END", "Command", "Writes", "append", "set_", "to"]

T = TypeVar("T")

END = "__end__"
"""The target of a node after which its part of the graph is done."""

Writes = Mapping[Key[Any], Any]
"""What was written: values, and for list keys tuples of items; all of it is checked."""


class Command:
    """Writes and targets. Immutable: each method returns a new one, so calls are chained.

    What is written is checked at once. A key that is set twice keeps the later value, and what is
    appended to a list comes after what was appended before. Without `to`, all declared targets of
    the node are taken.

    Attributes:
        writes: What to write.
        targets: Where to go; None for all declared targets.
    """

    __slots__ = ("targets", "writes")

    writes: Writes
    targets: tuple[str, ...] | None

    def __init__(
        self, writes: Writes | None = None, targets: tuple[str, ...] | None = None
    ) -> None:
        object.__setattr__(self, "writes", writes or {})
        object.__setattr__(self, "targets", targets)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a command never changes; use what its methods return")

    def __repr__(self) -> str:
        written = {key.name: value for key, value in self.writes.items()}
        return f"Command({written!r}, to={self.targets!r})"

    def set(self, key: Key[T], value: T) -> Command:
        """Write a value.

        Raises:
            UpdateInvalid: If it is not of the key's type, or the key is a list.
        """
        return Command({**self.writes, key: key.check(value)}, self.targets)

    def append(self, key: ListKey[T], *items: T) -> Command:
        """Append items to a list.

        Raises:
            UpdateInvalid: If one is not of the list's type, or the key is no list.
        """
        if not isinstance(key, ListKey):
            raise UpdateInvalid(key.name, "it is no list: use set")
        items = key.check_items(items)
        return Command({**self.writes, key: (*self.writes.get(key, ()), *items)}, self.targets)

    def to(self, *targets: str) -> Command:
        """Choose among the node's declared targets; called again, more of them."""
        return Command(self.writes, (*(self.targets or ()), *targets))


def set_(key: Key[T], value: T) -> Command:
    """Return a command that writes a value."""
    return Command().set(key, value)


def append(key: ListKey[T], *items: T) -> Command:
    """Return a command that appends items to a list."""
    return Command().append(key, *items)


def to(*targets: str) -> Command:
    """Return a command that only chooses where to go."""
    return Command().to(*targets)


def writes_of(answer: Any, keys: Mapping[str, Key[Any]]) -> Writes:
    """Return what a node's answer writes, checked against the keys of its graph.

    Raises:
        UpdateInvalid: If a key is not declared, or a value does not fit it.
        TypeError: If the answer is neither a command, nor a mapping, nor None.
    """
    if answer.__class__ is dict:
        return update_of(answer, keys)
    if isinstance(answer, Command):
        writes = answer.writes
        for key in writes:
            if keys.get(key.name) is not key:
                return {_declared(k, keys): _same(k, keys, v) for k, v in writes.items()}
        return writes
    if answer is None:
        return {}
    if isinstance(answer, Mapping):
        return update_of(answer, keys)
    raise TypeError(
        f"a node answers with a Command, a mapping of updates or None, not {type(answer).__name__}"
    )


def update_of(updates: Mapping[Any, Any], keys: Mapping[str, Key[Any]]) -> Writes:
    """Return what a mapping from keys, or their names, to values writes; for lists, the items."""
    writes = {}
    for name, value in updates.items():
        key = keys.get(name) or _declared(name, keys)
        writes[key] = value if value.__class__ is key.atom else key.check_update(value)
    return writes


def _declared(key: Key[Any] | str, keys: Mapping[str, Key[Any]]) -> Key[Any]:
    name = key.name if isinstance(key, Key) else key
    declared = keys.get(name)
    if declared is None:
        known = ", ".join(map(repr, keys)) or "none"
        raise UpdateInvalid(str(name), f"it is not declared; declared are: {known}")
    return declared


def _same(key: Key[Any], keys: Mapping[str, Key[Any]], value: Any) -> Any:
    """Return a value that was checked by a namesake of a declared key."""
    declared = keys[key.name]
    return value if declared is key else declared.check_update(value)
