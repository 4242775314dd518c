"""`python -m runtime.cli "question"`: the runtime alone, without a server or its command line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.support.process import AGENTS, ROOT, afresh, at_a_terminal, piped


def ask(
    *arguments: str, given: str | None = None, cwd: Path = ROOT, **more: str
) -> subprocess.CompletedProcess[bytes]:
    return piped("runtime.cli", *arguments, given=given, cwd=cwd, **more)


@pytest.mark.rows("S20", "S21")
def test_stdout_is_exactly_the_content_and_stderr_has_the_progress() -> None:
    done = ask("what is the weather?", "--agent", f"{AGENTS}:weather")
    assert done.returncode == 0
    assert done.stdout == "It is fine.\n\nEverywhere: ünïcode ✓".encode()
    told = done.stderr.decode()
    assert told.startswith("... get_weather\n")
    assert "✓ get_weather complete\n" in told
    assert told.endswith("\n[20 tokens]\n")
    assert "\x1b" not in told


def test_a_question_may_be_piped_in() -> None:
    assert ask("--agent", f"{AGENTS}:memory", given="hi").stdout == b"1: hi"


SPY = """
import sys
from runtime import Agent, ScriptedModel
from runtime.models.scripted import say

def seen(request):
    return say(str([name for name in sys.modules if name.split(".")[0] == "gateway"]))

agent = Agent("spy", ScriptedModel(seen))
"""


def test_it_needs_nothing_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    done = afresh("-m", "runtime.cli", "q", "--agent", "spy:agent", cwd=tmp_path)
    assert done.stdout == b"[]", done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("q", "--agent", "nowhere:agent"), "cannot import 'nowhere': "),
        (("q", "--agent", "agents"), "'agents' is not MODULE:NAME"),
        (
            ("q", "--model", "no-such"),
            "model 'no-such' is no GGUF file; for a hosted model set ",
        ),
        ((), "there is no question"),
    ],
)
def test_what_cannot_begin_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], reason: str
) -> None:
    done = ask(*arguments)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"runtime.cli: {reason}")


def test_with_a_key_the_hosted_model_is_asked() -> None:
    done = ask("q", OPENAI_API_KEY="k", OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    assert done.returncode == 1
    assert "(model_unavailable)" in done.stderr.decode().splitlines()[-1]


@pytest.mark.rows("S20")
def test_without_a_key_the_model_of_this_machine_answers() -> None:
    done = ask("Say hello.", "--quiet")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stderr == b""


async def test_ctrl_c_stops_it() -> None:
    asked = ("runtime.cli", "go", "--agent", f"{AGENTS}:slow")
    async with at_a_terminal(*asked) as screen:
        await screen.until("so far so good")
        screen.type("\x03")
        await screen.until("[stopped]")
        assert await screen.end() == 130
