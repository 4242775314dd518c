"""The state as a node sees it: what was committed before its superstep. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol, TypeVar, overload

from runtime.graph.keys import Key, ListKey

__all__ = ["View", "Viewed", "get", "get_list"]

T = TypeVar("T")


class View:
    """A read-only state. What is read are copies: changing them changes nothing for anybody."""

    __slots__ = ("_keys", "_values")

    def __init__(self, keys: Mapping[str, Key[Any]], values: Mapping[str, Any]) -> None:
        self._keys = keys
        self._values = values

    def get(self, key: Key[T]) -> T:
        """Return the value of a key, or its default.

        Raises:
            KeyError: If the graph has no key of this name.
        """
        return self[key]

    # Lists first: where a list goes into what takes any iterable, `T` would become an iterable.
    @overload
    def __getitem__(self, key: ListKey[T]) -> list[T]: ...
    @overload
    def __getitem__(self, key: Key[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Key[Any] | str) -> Any:
        name = key if isinstance(key, str) else key.name
        declared = self._keys.get(name)
        if declared is None:
            raise KeyError(f"key {name!r} is not declared by the graph")
        return declared.read(self._values.get(name, declared.default))

    def __contains__(self, key: object) -> bool:
        """Tell whether the key was written."""
        return (key.name if isinstance(key, Key) else key) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __repr__(self) -> str:
        return f"View({self.as_dict()!r})"

    def as_dict(self) -> dict[str, Any]:
        """Return what was written, by name."""
        return {name: self._keys[name].read(value) for name, value in self._values.items()}


class Viewed(Protocol):
    """What a state can be read from: a view, or a result of a run."""

    def get(self, key: Key[T]) -> T:
        """Return the value of a key, or its default."""


def get(state: Viewed, key: Key[T]) -> T:
    """Return the value of a key, or its default.

    Args:
        state: What a node was given, or a result of a run.
        key: The key.

    Raises:
        KeyError: If the graph has no key of this name.
    """
    return state.get(key)


def get_list(state: Viewed, key: ListKey[T]) -> list[T]:
    """Return the items of a list key; see `get`."""
    return state.get(key)
