"""`assistant`: the one that talks to a real model."""

from __future__ import annotations

from pathlib import Path

from gateway.builtin.scripted import delete_file, get_weather
from gateway.config import Settings
from gateway.errors import StartupRefused
from runtime.agent import Agent
from runtime.models.base import Model
from runtime.models.local import LocalModel
from runtime.models.openai import OpenAIModel

__all__ = ["assistant", "is_hosted"]

DEFAULT_HOSTED_MODEL = "gpt-5-mini"
"""Used when a key or an address is configured, but no model is named."""

INSTRUCTIONS = "You are a friendly, helpful assistant. Answer clearly and briefly."

LOCAL_INSTRUCTIONS = "You are a helpful assistant. Answer using what the user said before."
"""For the small model, which forgets: with these words it used a fact from the turn before in 11 of
18 tries, with `INSTRUCTIONS` in 9, with none in 7."""


def is_hosted(settings: Settings) -> bool:
    """Tell whether a provider answers, and not the small model on this machine."""
    return settings.openai_api_key is not None or settings.openai_base_url is not None


def assistant(settings: Settings) -> Agent:
    """Return the agent.

    Raises:
        StartupRefused: If the model that the settings name cannot be had.
    """
    if is_hosted(settings):
        key = settings.openai_api_key
        model: Model = OpenAIModel(
            settings.model or DEFAULT_HOSTED_MODEL,
            base_url=settings.openai_base_url,
            api_key=key.get_secret_value() if key is not None else None,
        )
        return Agent(
            "assistant",
            model,
            instructions=INSTRUCTIONS,
            tools=(get_weather, delete_file),
            description=f"Chats through {model.name}, and can use the demonstration tools.",
        )
    local = LocalModel() if settings.model is None else _local_model(Path(settings.model))
    return Agent(
        "assistant",
        local,
        instructions=LOCAL_INSTRUCTIONS,
        description=f"A small real model ({local.name}) that runs on this machine. Plain chat.",
    )


def _local_model(path: Path) -> LocalModel:
    """Return the model of a GGUF file."""
    if path.suffix != ".gguf" or not path.is_file():
        raise StartupRefused(
            f"model {str(path)!r} is no GGUF file; for a hosted model set OPENAI_API_KEY or "
            "TIDEGATE_OPENAI_BASE_URL too"
        )
    return LocalModel(path.stem, path)
