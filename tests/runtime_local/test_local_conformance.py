"""The real model keeps the promises of every provider; what it says is its own affair."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import replace

import pytest

from runtime.cancel import CancelToken
from runtime.errors import RunAborted
from runtime.models.base import Delta, Finish, Text
from runtime.models.chat import chat, stream_chat
from runtime.models.fold import fold
from runtime.models.local import LocalModel
from runtime.runnable import RunOptions
from tests.runtime_local.conftest import ask, deltas
from tests.runtime_local.test_local_model import until_idle

PATIENCE = 30.0
"""Seconds that a loaded machine may need for a start and a short answer."""

STORY = "Tell me a long story about the sea."


@pytest.mark.rows("C2", "C7", "C8", "C9", "W-C9")
async def test_an_answer_comes_in_pieces_and_as_a_whole(model: LocalModel) -> None:
    asked = ask(STORY, max_tokens=20)
    async with asyncio.timeout(PATIENCE):
        stream = stream_chat(model, asked)
        pieces = [chunk async for chunk in stream]
        whole = await chat(model, asked)
    assert len(pieces) > 5
    assert all(piece.delta and piece.content for piece in pieces)
    assert (whole.content, whole.delta) == ("".join(piece.content for piece in pieces), False)
    for finish in (stream.finish, whole.finish):
        assert finish is not None
        assert finish.reason == "length"
        assert finish.usage is not None
        assert finish.usage.completion_tokens == 20
        assert finish.model


@pytest.mark.rows("K19")
async def test_it_stops_before_a_stop_sequence_and_says_the_same_up_to_there(
    model: LocalModel,
) -> None:
    async with asyncio.timeout(PATIENCE):
        free = fold(await deltas(model, ask(STORY, max_tokens=30))).text
        middle = len(free) // 2
        sequence = free[middle : middle + 7]  # begins and ends in the middle of tokens
        asked = ask(STORY, max_tokens=30)
        options = RunOptions(temperature=0.0, max_tokens=30, stop_sequences=(sequence,))
        answer: list[Delta] = await deltas(model, replace(asked, options=options))
        await until_idle(model)
    assert fold(answer).text == free[: free.index(sequence)]
    assert fold(answer).finished().reason == "stop"
    assert sum(isinstance(delta, Finish) for delta in answer) == 1


async def test_it_fits_its_answer_to_a_schema(model: LocalModel) -> None:
    schema = {
        "type": "object",
        "properties": {"color": {"enum": ["red", "blue"]}, "shade": {"enum": ["light", "dark"]}},
        "required": ["color", "shade"],
        "additionalProperties": False,
    }
    asked = replace(ask("What is the color of the sky?"), output_schema=schema)
    async with asyncio.timeout(PATIENCE):
        said = json.loads(fold(await deltas(model, asked)).text)
    assert set(said) == {"color", "shade"}
    assert said["color"] in {"red", "blue"}


@pytest.mark.rows("S37", "W-S3", "W-C10")
async def test_an_abort_and_a_break_free_its_slot(model: LocalModel) -> None:
    token = CancelToken()
    asked = ask(STORY, max_tokens=1000)

    async def read() -> None:
        async for _ in stream_chat(model, asked, cancel=token):
            token.abort("enough")

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(RunAborted, match="enough"):
            await read()
        await until_idle(model)
        async for _ in stream_chat(model, asked):
            break
        await until_idle(model)


async def test_the_first_piece_comes_before_the_last_one_is_made(model: LocalModel) -> None:
    asked = ask(STORY, max_tokens=1000)
    async with asyncio.timeout(PATIENCE), aclosing(model.stream(asked)) as stream:
        assert isinstance(await anext(stream), Text)
        assert model._serving is not None
        slots = await model._serving.process._ask("GET", "/slots")
        assert any(slot["is_processing"] for slot in slots)
