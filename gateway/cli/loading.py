"""What a command line names: registries, settings, the built-in agents."""

from __future__ import annotations

from typing import Any, cast

import typer
from pydantic import ValidationError

from gateway.config import Settings, check_engine
from gateway.errors import StartupRefused
from runtime.cli import load
from runtime.cli.load import LoadRefused
from runtime.registry import Registry

__all__ = ["built_in", "engine_option", "load_registry", "load_settings"]


def load_registry(
    target: str, *, form: str = "MODULE:REGISTRY", example: str = "agents:registry"
) -> Registry:
    """Return what `module:name` says is to be served.

    The name may lead through attributes (`agents:team.registry`) to a registry, to one runnable,
    or to a function without arguments that returns one of these.

    Args:
        target: What to serve, or to run.
        form: How it should look, for the text of a refusal.
        example: One that looks so.

    Raises:
        StartupRefused: If there is nothing of the kind; the text is one line and names the part
            that is wrong.
    """
    try:
        return load.load_registry(target, form=form, example=example)
    except LoadRefused as refused:
        raise StartupRefused(str(refused)) from refused


def built_in(settings: Settings) -> Registry:
    """Return the built-in agents.

    Raises:
        StartupRefused: If they cannot be made.
    """
    # Imported here and not above, so that `--help` and `--version` answer at once.
    from gateway.builtin import build_registry  # noqa: PLC0415

    try:
        registry: Registry = load.translated(
            "cannot make the built-in agents", build_registry, settings
        )
    except LoadRefused as refused:
        if isinstance(refused.__cause__, StartupRefused):
            raise refused.__cause__ from None
        raise StartupRefused(str(refused)) from refused
    return registry


def load_settings(**flags: object) -> Settings:
    """Return the settings of flags and environment.

    Raises:
        StartupRefused: If one has no meaning; the text names its variable.
    """
    try:
        return Settings(**cast("dict[str, Any]", flags))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        variable = name if name.isupper() else f"TIDEGATE_{name.upper()}"
        raise StartupRefused(f"{variable}: {first['msg'].removeprefix('Value error, ')}") from None


def engine_option(value: str | None) -> str | None:
    """Return the value of an option `--engine`.

    Raises:
        typer.BadParameter: If it is none; the text has nothing of it.
    """
    try:
        return None if value is None else check_engine(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
