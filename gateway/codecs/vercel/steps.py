"""What every telling is made of: frames, steps, pieces of text. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from gateway.codecs.codec import Frame
from gateway.codecs.vercel.chunks import chunk
from gateway.codecs.vercel.state import Path, StreamState

__all__ = ["Steps"]


class Steps:
    """Gathers the frames of one event."""

    def __init__(self, state: StreamState, left_out: frozenset[str]) -> None:
        """Begin.

        Args:
            state: From before the event.
            left_out: The ids of what is not said.
        """
        self.state = state
        self.frames: list[Frame] = []
        self._left_out = left_out

    def _say(self, kind: str, /, **fields: Any) -> None:
        self.frames.append(chunk(kind, **fields))

    def _set(self, **fields: Any) -> None:
        self.state = replace(self.state, **fields)

    def _enter_step(self) -> None:
        """Begin a new step if a model was called since the last one, and nothing of that is open.

        After a pause, what is said before that belongs to the last step still.
        """
        state = self.state
        is_due = state.turned or not state.stepped
        if is_due and not (state.texts or state.reasoning or state.calls):
            if state.in_step:
                self._say("finish-step")
            self._say("start-step")
            self._set(in_step=True, stepped=True, answered=False)
        self._set(turned=False)

    def _leave_step(self) -> None:
        for id_ in self.state.texts:
            self._say("text-end", id=id_)
        for id_ in self.state.reasoning:
            self._say("reasoning-end", id=id_)
        if self.state.in_step:
            self._say("finish-step")
        self._set(in_step=False, texts=(), reasoning=())

    def _piece(self, kind: Literal["text", "reasoning"], id_: str, text: str, path: Path) -> None:
        """Say a piece of a text, which begins with its first piece: none is empty."""
        opened = self.state.texts if kind == "text" else self.state.reasoning
        if id_ not in opened:
            self._enter_step()
            told = {"tidegate": {"messageId": id_, "path": path}}
            self._say(f"{kind}-start", id=id_, providerMetadata=told)
            if kind == "text":
                self._set(texts=(*opened, id_), spoke=True)
            else:
                self._set(reasoning=(*opened, id_))
        self._say(f"{kind}-delta", id=id_, delta=text)
