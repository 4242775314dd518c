"""What `tidegate serve` offers when it is not given any agents.

`assistant` talks to a real model. `echo` and `tools` are scripted, and say so: they show streaming,
tools and approvals without a key, and exactly the same every time. `research` is a graph.
"""

from __future__ import annotations

from gateway.builtin.research import research
from gateway.builtin.scripted import EchoOptions, delete_file, echo, get_weather, tools
from gateway.config import Settings
from runtime.registry import Registry

__all__ = ["EchoOptions", "build_registry", "delete_file", "get_weather"]


def build_registry(settings: Settings) -> Registry:
    """Return the built-in agents; the first is the default.

    Raises:
        StartupRefused: If the model that the settings name cannot be had.
    """
    # Here, so that who only takes a tool from this package does not wait for a model's client.
    from gateway.builtin.assistant import assistant, is_hosted  # noqa: PLC0415

    speaks = assistant(settings)
    model = speaks.model if is_hosted(settings) else None
    return Registry(speaks, echo(), tools(), research(model))
