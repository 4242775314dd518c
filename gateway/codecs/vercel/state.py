"""Where a stream stands. Pure data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.codecs.vercel.superseding import Said

__all__ = ["Call", "Path", "Stage", "StreamState"]

Path = tuple[str, ...]

Stage = Literal["writing", "ready", "asked", "waiting"]
"""`asked`: a human, or the client, is to answer. `waiting`: others were, and the run is paused."""


class Call(NamedTuple):
    """A tool call that has a part in the message and no outcome yet, or a question of a node.

    Attributes:
        path: Who made it.
        call_id: Its id within the path; for a question, the approval's.
        name: The tool, or the node.
        arguments: JSON text.
        of_client: Whether the client is to carry it out.
        stage: How far it is.
        approval: The approval that holds it.
    """

    path: Path
    call_id: str
    name: str
    arguments: str = ""
    of_client: bool = False
    stage: Stage = "writing"
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class StreamState:
    """Where a stream stands after an entry.

    Attributes:
        run_id: The run; empty before its first event.
        created: When its first event was, milliseconds since 1970.
        started: Whether `start` was sent.
        in_step: Whether a step is open.
        stepped: Whether there was a step.
        turned: Whether a model was called again since something was said.
        texts: The messages that are open.
        reasoning: The pieces of reasoning that are open.
        calls: The calls without an outcome.
        client_tools: The names of the client's tools.
        answered: Whether a call of the client's tools has an outcome in the open step.
        spoke: Whether any text of the conversation was said.
        said: What may still be said anew.
    """

    run_id: str = ""
    created: int = 0
    started: bool = False
    in_step: bool = False
    stepped: bool = False
    turned: bool = False
    texts: tuple[str, ...] = ()
    reasoning: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    client_tools: frozenset[str] = frozenset()
    answered: bool = False
    spoke: bool = False
    said: Said = field(default_factory=Said)
