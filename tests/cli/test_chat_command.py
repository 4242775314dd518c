"""`tidegate chat` on pipes: the answer and nothing but the answer, and honest exit codes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from tests.cli.support.process import AGENTS, PATIENCE, ROOT, afresh, environment, tidegate

TARGET = ("--target", f"{AGENTS}:registry")


@pytest.mark.rows("S20", "S21")
def test_on_pipes_stdout_is_exactly_the_content_and_stderr_has_plain_progress() -> None:
    done = tidegate("chat", "weather", *TARGET, "-m", "go")
    assert done.returncode == 0
    assert done.stdout == "It is fine.\n\nEverywhere: ünïcode ✓".encode()
    assert done.stderr.decode().splitlines() == [
        "... get_weather",
        "... get_weather",
        "    get_weather: 50% asking Oslo",
        "    get_weather: 50% asking Rome",
        "✓ get_weather complete",
        "✓ get_weather complete",
        "[14 tokens]",
    ]


@pytest.mark.rows("S21")
def test_with_color_the_lines_on_a_pipe_are_coloured_and_stdout_is_not() -> None:
    done = tidegate("chat", "weather", *TARGET, "-m", "go", "--color")
    assert done.stdout == "It is fine.\n\nEverywhere: ünïcode ✓".encode()
    assert "\x1b[2m... get_weather\x1b[0m\n" in done.stderr.decode()
    assert "\x1b[32m✓ get_weather complete\x1b[0m\n" in done.stderr.decode()


@pytest.mark.rows("S20")
def test_a_pipe_gets_even_what_would_steer_a_terminal() -> None:
    done = tidegate("chat", "escaping", *TARGET, "-m", "go")
    assert done.stdout == b"\x1b]0;title\x07red \x1b[31m text"


def test_what_is_piped_in_is_the_message_and_the_first_agent_answers() -> None:
    done = tidegate("chat", *TARGET, given="three\nlines\nhere")
    assert (done.returncode, done.stdout) == (0, b"1: three\nlines\nhere")


def test_quiet_says_nothing_but_the_answer() -> None:
    done = tidegate("chat", "weather", *TARGET, "-m", "go", "--quiet")
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_failed_run_is_one_line_and_exit_code_1() -> None:
    done = tidegate("chat", "failing", *TARGET, "-m", "go", "--quiet")
    assert done.returncode == 1
    assert done.stdout == b"well, "
    assert done.stderr == b"tidegate: the run failed: ValueError: the secret of it\n"


def test_a_tool_that_fails_is_told_and_the_answer_goes_on() -> None:
    done = tidegate("chat", "--target", f"{AGENTS}:breaking", "-m", "go")
    assert (done.returncode, done.stdout) == (0, b"It broke.")
    assert "✗ break_down: no such city" in done.stderr.decode()


def test_an_approval_that_nobody_can_give_is_exit_code_3() -> None:
    done = tidegate("chat", "careful", *TARGET, "-m", "go")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"delete_file asks for approval" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nobody", *TARGET, "-m", "hi"), "there is no agent 'nobody'; registered: "),
        (("--target", "nowhere:registry", "-m", "hi"), "cannot import 'nowhere': "),
        (("--session", "s", "-m", "hi"), "--session goes with --url"),
        (("--url", "http://127.0.0.1:9", *TARGET, "-m", "hi"), "give either --url or --target"),
        (("--url", "http://127.0.0.1:9", "-m", "hi"), "no server answers at http://127.0.0.1:9"),
        (("--url", "ftp://x", "-m", "hi"), "'ftp://x' is no address such as "),
        ((*TARGET, "-m", "  "), "there is no message"),
        (TARGET, "there is no message"),
    ],
)
def test_what_cannot_begin_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], reason: str
) -> None:
    done = tidegate("chat", *arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"tidegate: {reason}")
    assert done.stdout == b""


def test_the_built_in_agents_answer_without_a_server() -> None:
    chat = ("-m", "gateway", "chat", "echo", "-m", "hello there")
    done = afresh(*chat, TIDEGATE_OPENAI_BASE_URL="http://[::1]:9")
    assert (done.returncode, done.stdout) == (0, b"hello there")


def test_head_takes_what_it_wants_and_the_command_ends_cleanly() -> None:
    done = subprocess.run(  # noqa: S602 - a pipe is what this is about
        f"{sys.executable} -m gateway chat lines --target {AGENTS}:registry -m go | head -1; "
        "echo ${PIPESTATUS[*]}",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout == b"line 0\n0 0\n"
    assert done.stderr == b""


async def test_a_real_sigint_ends_the_run_as_cancelled_and_keeps_the_partial_answer() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "chat", "slow", *TARGET, "-m", "go"),
        cwd=ROOT,
        env=environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert await process.stdout.readexactly(14) == b"so far so good"
        process.send_signal(signal.SIGINT)
        rest, told = await process.communicate()
    assert process.returncode == 130
    assert rest == b""
    assert told == b"[stopped]\n"


def test_the_help_names_the_options_and_shows_examples() -> None:
    told = tidegate("chat", "--help").stdout.decode()
    for option in ("--target", "--url", "--session", "--message", "--color", "--quiet"):
        assert option in told
    assert "Examples" in told
    commands = tidegate("--help").stdout.decode()
    assert "tidegate chat --url" in commands
    assert "tidegate run graph.py:graph" in commands
