"""Deltas become an answer."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelRefused, ModelSpokeNonsense, ModelUnavailable
from runtime.messages import ToolCall, Usage
from runtime.models.base import Finish, ReasoningText, Text, ToolCallFragment
from runtime.models.fold import fold
from runtime.retry import RetryPolicy


def test_text_and_reasoning_are_joined_apart() -> None:
    answer = fold([ReasoningText("hm"), Text("a"), ReasoningText("!"), Text("b"), Finish("stop")])
    assert (answer.text, answer.reasoning) == ("ab", "hm!")
    assert answer.finished() == Finish("stop")


@given(
    arguments=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_fragments_of_interleaved_calls_come_out_whole(arguments: list[str], order: Random) -> None:

    rest = [[ToolCallFragment(i, arguments=c) for c in text] for i, text in enumerate(arguments)]
    deltas = [ToolCallFragment(i, id=f"c{i}", name="t") for i in range(len(arguments))]
    while any(rest):
        deltas.append(order.choice([pieces for pieces in rest if pieces]).pop(0))
    assert fold(deltas).tool_calls == tuple(
        ToolCall(id=f"c{i}", name="t", arguments=text) for i, text in enumerate(arguments)
    )


@pytest.mark.rows("SX12")
def test_an_answer_without_a_finish_is_no_answer() -> None:
    with pytest.raises(ModelSpokeNonsense, match="ended without a finish"):
        fold([Text("half")]).finished()


def test_a_call_without_a_name_is_no_call() -> None:
    with pytest.raises(ModelSpokeNonsense, match="without naming it"):
        fold([ToolCallFragment(0, id="c", arguments="{}"), Finish("tool_calls")]).finished()


def test_usage_adds_up_and_what_nobody_knows_stays_unknown() -> None:
    total = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3) + Usage(
        prompt_tokens=10, completion_tokens=20, total_tokens=30, cache_read_tokens=5
    )
    assert total == Usage(
        prompt_tokens=11, completion_tokens=22, total_tokens=33, cache_read_tokens=5
    )
    assert total.reasoning_tokens is None


def test_the_wait_doubles_up_to_the_cap_and_the_dice_decide_how_much_of_it() -> None:
    longest = RetryPolicy(attempts=9, base=1.0, cap=5.0, roll=lambda: 1.0)
    half = RetryPolicy(attempts=9, base=1.0, cap=5.0, roll=lambda: 0.5)
    error = ModelUnavailable("busy")
    assert [longest.delay(n, error) for n in (1, 2, 3, 4, 5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert half.delay(3, error) == 2.0


@pytest.mark.rows("SX11")
def test_a_provider_that_says_when_is_obeyed_up_to_the_cap() -> None:
    policy = RetryPolicy(cap=30.0, roll=lambda: 0.0)
    assert policy.delay(1, ModelUnavailable("busy", retry_after=7.0)) == 7.0
    assert policy.delay(1, ModelUnavailable("busy", retry_after=700.0)) == 30.0


def test_the_last_attempt_and_a_refusal_are_final() -> None:
    policy = RetryPolicy(attempts=3)
    assert policy.delay(2, ModelUnavailable("busy")) is not None
    assert policy.delay(3, ModelUnavailable("busy")) is None
    assert policy.delay(1, ModelRefused("no")) is None
