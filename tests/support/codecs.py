"""The codecs, for the tests that hold all of them to one contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.codecs.a2a.codec import A2aCodec
from gateway.codecs.agui import AguiCodec, Names
from gateway.codecs.codec import Codec, Frame
from gateway.codecs.openai.chat_completions import ChatCompletions
from gateway.codecs.openai.responses import Responses
from gateway.codecs.sources.agentlang import AgentlangCodec
from gateway.codecs.sources.agentmesh import AgentMeshCodec
from gateway.codecs.sources.chronos import ChronosCodec
from gateway.codecs.sources.sekuire import SekuireCodec
from gateway.codecs.sources.stratus import StratusCodec
from gateway.codecs.vercel import UiMessageStream
from tests.codecs.rules_a2a import check_a2a
from tests.codecs.rules_agentmesh import SILENT_IN_AGENTMESH, check_agentmesh
from tests.codecs.rules_agui import SILENT_IN_AGUI, check_agui
from tests.codecs.rules_chat_completions import SILENT, check_chat_completions
from tests.codecs.rules_chronos import check_chronos
from tests.codecs.rules_responses import SILENT_IN_RESPONSES, check_responses
from tests.codecs.rules_sources import (
    SILENT_IN_AGENTLANG,
    SILENT_IN_SEKUIRE,
    SILENT_IN_STRATUS,
    check_agentlang,
    check_sekuire,
    check_stratus,
)
from tests.codecs.rules_vercel import SILENT_IN_VERCEL, check_vercel

__all__ = ["CASES", "Case", "Check"]

Check = Callable[[Sequence[Frame], bool], None]
"""Raises AssertionError if a client of the protocol would not bear these messages, in this order.

The messages are those of one stream from its first; the flag says that the stream was cut: its last
messages are what `Codec.cut` gave, and the run has not ended.
"""


@dataclass(frozen=True)
class Case:
    """A codec under the contract.

    Attributes:
        name: For people.
        codec: It.
        check: The order rules of its protocol.
        silent: The types of events that never make a message, knowingly.
        whole: Whether a stream may also tell all segments of a run, with the pauses between.
    """

    name: str
    codec: Codec[Any]
    check: Check
    silent: frozenset[str] = field(default_factory=frozenset)
    whole: bool = True


CASES: list[Case] = [
    Case("Stratus", StratusCodec(deltas=True), check_stratus, SILENT_IN_STRATUS),
    Case("Agentlang", AgentlangCodec(), check_agentlang, SILENT_IN_AGENTLANG),
    Case("Chronos", ChronosCodec(), check_chronos),
    Case("AgentMesh", AgentMeshCodec(), check_agentmesh, SILENT_IN_AGENTMESH, whole=False),
    Case("Sekuire", SekuireCodec(), check_sekuire, SILENT_IN_SEKUIRE),
    Case(
        "chat completions",
        ChatCompletions("made-up", include_usage=True),
        check_chat_completions,
        SILENT,
        whole=False,  # a pause ends the answer
    ),
    Case("Responses", Responses(), check_responses, SILENT_IN_RESPONSES),
    Case(
        "A2A",
        A2aCodec("ses_story.run_0", "ses_story"),
        check_a2a,
        frozenset(
            {
                "agent.completed",
                "agent.started",
                "checkpoint.saved",
                "edge.taken",
                "history.rolled_back",
                "input.dequeued",
                "run.attempt_released",
                "input.steered",
                "message.started",
                "model.completed",
                "model.failed",
                "model.retrying",
                "model.started",
                "reasoning.completed",
                "reasoning.delta",
                "reasoning.started",
                "superstep.completed",
                "superstep.started",
                "tool_call.delta",
                "tool_call.ready",
                "tool_call.started",
            }
        ),
    ),
    Case("AG-UI", AguiCodec(Names("t1", "r1", modern=True)), check_agui, SILENT_IN_AGUI),
    Case(
        "AG-UI before 1.0",
        AguiCodec(Names("t1", "r1")),
        check_agui,
        SILENT_IN_AGUI | {"agent.completed", "agent.started"},
    ),
    Case(
        "Vercel",
        UiMessageStream(),
        check_vercel,
        SILENT_IN_VERCEL,
        whole=False,
    ),
]
"""One line for each codec: `Case("AG-UI", AguiCodec(…), check_agui, frozenset({"model.started", …}))`."""
