"""AG-UI: runs as the events that AG-UI clients take. Pure."""

from __future__ import annotations

from gateway.codecs.agui.codec import AguiCodec
from gateway.codecs.agui.ending import Names
from gateway.codecs.agui.state import AguiState

__all__ = ["AguiCodec", "AguiState", "Names"]
