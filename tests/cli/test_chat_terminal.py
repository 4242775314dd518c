"""`tidegate chat` at a real terminal: prompts, spinner, Ctrl-C, approvals, and how one leaves."""

from __future__ import annotations

import pytest

from tests.cli.support.process import AGENTS, Screen, at_a_terminal

ESCAPE = "\x1b["


def chat(*arguments: str) -> tuple[str, ...]:
    return ("gateway", "chat", *arguments, "--target", f"{AGENTS}:registry")


async def say(screen: Screen, text: str, prompt: str = "memory> ") -> None:
    await screen.until(prompt)
    screen.type(f"{text}\n")


async def test_a_conversation_remembers_and_ends_with_ctrl_d() -> None:
    async with at_a_terminal(*chat()) as screen:
        await say(screen, "hello")
        await screen.until("1: hello\n")
        await screen.until("[3 tokens]\n")
        await say(screen, "again")
        await screen.until("2: again\n")
        await screen.until("memory> ")
        screen.type("\x04")
        assert await screen.end() == 0


async def test_a_new_conversation_has_forgotten_the_old_one() -> None:
    async with at_a_terminal(*chat()) as screen:
        await say(screen, "hello")
        await say(screen, "/new")
        await screen.until("a new conversation")
        await say(screen, "hello")
        await screen.until("1: hello")
        await say(screen, "/quit")
        assert await screen.end() == 0


async def test_another_agent_takes_the_conversation_over() -> None:
    async with at_a_terminal(*chat("weather")) as screen:
        await say(screen, "/agents", prompt="weather> ")
        listed = await screen.until("weather> ")
        assert "* weather" in listed
        assert "Stops in the middle." in listed
        screen.type("/agent nobody\n")
        await screen.until("there is no agent 'nobody'")
        await say(screen, "/agent memory", prompt="weather> ")
        await say(screen, "hello")
        await screen.until("1: hello")
        await say(screen, "/agent")
        await screen.until("there is no /agent; /help")
        await say(screen, "/help")
        await screen.until("/agents ")


async def test_what_begins_with_two_slashes_is_said_with_one() -> None:
    async with at_a_terminal(*chat()) as screen:
        await say(screen, "//path")
        await screen.until("1: /path")


async def test_the_up_key_brings_the_last_line_back() -> None:
    async with at_a_terminal(*chat()) as screen:
        await say(screen, "hello")
        await screen.until("1: hello")
        await screen.until("memory> ")
        screen.type("\x1b[A\n")
        await screen.until("2: hello")


@pytest.mark.rows("S48")
async def test_ctrl_c_stops_the_answer_which_stays_and_the_conversation_goes_on() -> None:
    async with at_a_terminal(*chat("slow")) as screen:
        await say(screen, "go", prompt="slow> ")
        await screen.until("so far so good")
        screen.type("\x03")
        await screen.until("[stopped]")
        await say(screen, "/agent memory", prompt="slow> ")
        await say(screen, "still there?")
        await screen.until("2: still there?")


@pytest.mark.rows("S48")
async def test_a_tool_that_never_comes_back_is_stopped_too() -> None:
    for agent, tool in (("waiting", "wait_for_ever"), ("hanging", "hang")):
        async with at_a_terminal(*chat(agent, "-m", "go")) as screen:
            await screen.until(f"... {tool}")
            screen.type("\x03")
            await screen.until("[stopped]")
            assert await screen.end() == 130


async def test_ctrl_c_at_the_prompt_leaves() -> None:
    async with at_a_terminal(*chat()) as screen:
        await screen.until("memory> ")
        assert await screen.leave() == 130


async def test_ctrl_c_pressed_over_and_over_until_the_very_end_is_one_ctrl_c() -> None:
    async with at_a_terminal("gateway", "chat", "echo") as screen:
        await screen.until("echo> ")
        assert await screen.leave(every=0.003) == 130
        assert "Traceback" not in screen.text
        assert "Traceback" not in screen.text


async def test_ctrl_c_ends_a_single_answer_and_says_so_by_its_exit_code() -> None:
    async with at_a_terminal(*chat("slow", "-m", "go")) as screen:
        await screen.until("so far so good")
        screen.type("\x03")
        assert await screen.end() == 130
        assert screen.text.replace("^C", "") == "so far so good\n[stopped]\n"


async def test_a_second_ctrl_c_leaves_where_the_first_does_not_help() -> None:
    async with at_a_terminal(*chat("stubborn", "-m", "go")) as screen:
        await screen.until("holding on")
        screen.type("\x03")
        await screen.until("... cling")
        screen.type("\x03")
        assert await screen.end() == 130
        assert screen.raw.count(f"{ESCAPE}?25h") == screen.raw.count(f"{ESCAPE}?25l")


@pytest.mark.rows("S21")
async def test_a_spinner_turns_while_tools_run_and_is_gone_afterwards() -> None:
    async with at_a_terminal(*chat("waiting", "-m", "go")) as screen:
        frames = set("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏")
        await screen.until("... wait_for_ever\n")
        for _ in range(3):
            await screen.until(" wait_for_ever")
        assert len(frames & set(screen.text)) >= 1
        assert f"{ESCAPE}2m... wait_for_ever" in screen.raw, "the start is not dim"
        assert f"{ESCAPE}?25l" in screen.raw, "the cursor is not hidden"
        screen.type("\x03")
        await screen.until("[stopped]")
        assert await screen.end() == 130
        assert screen.raw.rindex(f"{ESCAPE}?25h") > screen.raw.rindex(f"{ESCAPE}?25l")


@pytest.mark.rows("S21")
async def test_on_a_terminal_tools_are_dim_and_green_and_the_answer_ends_its_line() -> None:
    async with at_a_terminal(*chat("weather", "-m", "go")) as screen:
        await screen.until("[14 tokens]\n")
        assert await screen.end() == 0
    assert f"{ESCAPE}32m✓ get_weather complete{ESCAPE}0m" in screen.raw
    assert "It is fine.\n\nEverywhere: ünïcode ✓\n[14 tokens]\n" in screen.text


@pytest.mark.rows("S20", "S21")
async def test_content_on_a_pipe_is_untouched_while_the_spinner_is_on_the_terminal() -> None:
    async with at_a_terminal(*chat("weather", "-m", "go"), pipe_out=True) as screen:
        await screen.until("[14 tokens]")
        assert await screen.end() == 0
        assert screen.out.decode() == "It is fine.\n\nEverywhere: ünïcode ✓"
        assert "✓ get_weather complete" in screen.text
        assert "It is fine" not in screen.text
        assert ESCAPE in screen.raw


async def test_without_colour_a_terminal_gets_plain_lines() -> None:
    async with at_a_terminal(*chat("weather", "-m", "go", "--no-color")) as screen:
        await screen.until("[14 tokens]")
        assert await screen.end() == 0
        assert ESCAPE not in screen.raw


async def test_what_is_said_cannot_steer_the_terminal() -> None:
    async with at_a_terminal(*chat("escaping", "-m", "go", "--no-color")) as screen:
        await screen.until("tokens]")
        assert "\x1b" not in screen.raw
        assert "]0;titlered [31m text" in screen.raw


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y\n", "Result: deleted a.txt."),
        ("maybe\nyes\n", "Result: deleted a.txt."),
        ("n not that one\n", "not that one"),
        ('e {"path": "b.txt"}\n', "Result: deleted b.txt."),
        ('e\nnonsense\ne\n{"path": "c.txt"}\n', "Result: deleted c.txt."),
    ],
)
async def test_an_approval_is_asked_for_inline(typed: str, answer: str) -> None:
    async with at_a_terminal(*chat("careful")) as screen:
        await say(screen, "go", prompt="careful> ")
        await screen.until('? delete_file asks for approval {"path": "a.txt"}')
        for line in typed.splitlines(keepends=True):
            await screen.until(": ")
            screen.type(line)
        await screen.until(answer)
        await screen.until("careful> ")
        screen.type("\x04")
        assert await screen.end() == 0


async def test_a_question_is_never_written_into_a_pipe() -> None:
    async with at_a_terminal(*chat("careful", "-m", "go"), pipe_out=True) as screen:
        await screen.until("[e]dit: ")
        screen.type("y\n")
        await screen.until("tokens]")
        assert await screen.end() == 0
        assert screen.out == b"Result: deleted a.txt."


async def test_ctrl_d_at_an_approval_leaves_without_a_decision() -> None:
    async with at_a_terminal(*chat("careful")) as screen:
        await say(screen, "go", prompt="careful> ")
        await screen.until("[e]dit: ")
        screen.type("\x04")
        assert await screen.end() == 0
        assert "deleted" not in screen.text


async def test_an_answer_that_fails_does_not_end_the_conversation() -> None:
    async with at_a_terminal(*chat("failing")) as screen:
        await say(screen, "go", prompt="failing> ")
        await screen.until("tidegate: the run failed: ValueError: the secret of it\n")
        await screen.until("failing> ")


async def test_sigterm_leaves_the_terminal_as_it_was() -> None:
    async with at_a_terminal(*chat("waiting", "-m", "go")) as screen:
        await screen.until("... wait_for_ever\n")
        screen.process.terminate()
        assert await screen.end() == 143
        assert screen.raw.count(f"{ESCAPE}?25h") == screen.raw.count(f"{ESCAPE}?25l")
