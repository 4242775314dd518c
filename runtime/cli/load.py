"""Finding what a command line is to run: `module:name`, or `file.py:name`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from runtime.registry import Registry
from runtime.runnable import Runnable

__all__ = ["LoadRefused", "is_runnable", "load", "load_registry", "translated"]

_logger = logging.getLogger(__name__)


class LoadRefused(Exception):
    """There is nothing of the kind; the text is one line and names the part that is wrong."""


def load(target: str, *, form: str = "MODULE:NAME", example: str = "agents:registry") -> Any:
    """Return the object that `module:name` or `file.py:name` names.

    The name may lead through attributes. Modules are found in this folder too, and files find
    their neighbours.

    Args:
        target: What to find.
        form: How it should look, for the failure's text.
        example: One that looks so.

    Raises:
        LoadRefused: If it cannot be found.
    """
    place, colon, name = target.rpartition(":")
    if not (place and colon and name):
        raise LoadRefused(f"{target!r} is not {form}, for example {example}")
    is_file = place.endswith(".py")
    if is_file:
        found: Any = translated(f"cannot load {place!r}", _load_file, Path(place))
    else:
        _look_in(Path.cwd())
        found = translated(f"cannot import {place!r}", importlib.import_module, place)
    for part in name.split("."):
        if not hasattr(found, part):
            what = "file" if is_file else "module"
            raise LoadRefused(f"{what} {place!r} has no {name!r}")
        found = getattr(found, part)
    return found


def load_registry(
    target: str, *, form: str = "MODULE:REGISTRY", example: str = "agents:registry"
) -> Registry:
    """Return what a target names as a registry: it is one, or a runnable, or a function.

    A function is called without arguments and returns one of these.

    Raises:
        LoadRefused: If there is nothing of the kind.
    """
    found = load(target, form=form, example=example)
    if callable(found) and not is_runnable(found):
        found = translated(f"{target} failed when called", found)
    if is_runnable(found):
        found = translated(f"{target} cannot be served", Registry, cast("Runnable", found))
    if not isinstance(found, Registry):
        raise LoadRefused(
            f"{target} is of type {type(found).__name__}: expected a Registry, an Agent, a graph, "
            "or a function that returns one"
        )
    if not len(found):
        raise LoadRefused(f"{target} has no agents")
    return found


def is_runnable(thing: object) -> bool:
    """Tell whether this is an agent, a graph, or something like them."""
    wanted = ("name", "kind", "description", "options_type", "tool_infos", "execute", "aclose")
    return not isinstance(thing, type) and all(hasattr(thing, each) for each in wanted)


def translated(what: str, work: Callable[..., Any], *arguments: object) -> Any:
    """Call other people's code; whatever it raises becomes one line.

    Raises:
        LoadRefused: If it raised anything.
    """
    try:
        return work(*arguments)
    except Exception as error:
        _logger.debug("%s", what, exc_info=True)
        reason = " ".join(str(error).split())
        raise LoadRefused(f"{what}: {type(error).__name__}: {reason}") from error


def _look_in(folder: Path) -> None:
    if (here := str(folder)) not in sys.path:
        sys.path.insert(0, here)


def _load_file(path: Path) -> ModuleType:
    """Run a file as a module of its own name, or of another one where that name is taken."""
    path = path.resolve(strict=True)
    _look_in(path.parent)
    taken = path.stem in sys.modules or importlib.util.find_spec(path.stem) is not None
    name = path.stem
    if taken and _origin(name) != path:
        name = f"tidegate_target_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("this is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _origin(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return Path(spec.origin) if spec is not None and spec.origin else None
