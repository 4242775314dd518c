"""`tidegate run`: a graph or an agent once, with its progress beside and its output alone."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.support.process import AGENTS, ROOT, afresh, at_a_terminal, tidegate

GRAPHS = "tests/cli/support/graphs.py"


def run(
    *arguments: str, given: str | None = None, cwd: Path = ROOT
) -> subprocess.CompletedProcess[bytes]:
    return tidegate("run", *arguments, given=given, cwd=cwd)


def test_a_graph_from_a_file_shows_its_nodes_and_gives_its_output_as_json() -> None:
    done = afresh("-m", "gateway", "run", f"{GRAPHS}:graph", "--input", '{"n": 3}')
    assert (done.returncode, done.stdout) == (0, b"6\n")
    told = [line.partition(" (")[0] for line in done.stderr.decode().splitlines()]
    assert told[:6] == [
        "step 1: double",
        "... double",
        "    double: 50% half 1",
        "    double: 100% half 2",
        "✓ double",
        "step 2: left, right",
    ]
    assert sorted(told[6:]) == ["... left", "... right", "✓ left", "✓ right"]


def test_an_output_that_is_text_is_written_as_it_is() -> None:
    done = run(f"{GRAPHS}:build_talking", "--input", "ünïcode")
    assert (done.returncode, done.stdout.decode()) == (0, "You said: ünïcode")


def test_an_agent_is_run_with_what_the_user_says() -> None:
    done = run(f"{AGENTS}:weather", "-i", "go")
    assert (done.returncode, done.stdout.decode()) == (0, "It is fine.\n\nEverywhere: ünïcode ✓")


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("--set", "n=5"), b"10\n"),
        (("--input", "@{file}"), b"14\n"),
        (("--input", "@{file}", "--set", "n=8"), b"16\n"),
        (("--input", "-"), b"18\n"),
        ((), b"0\n"),
    ],
)
def test_first_values_come_from_json_files_standard_input_and_settings(
    arguments: tuple[str, ...], output: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "start.json"
    file.write_text('{"n": 7}')
    named = [argument.format(file=file) for argument in arguments]
    assert run(f"{GRAPHS}:build", *named, given='{"n": 9}').stdout == output


def test_json_writes_every_event_as_a_line_and_nothing_else() -> None:
    done = run(f"{GRAPHS}:graph", "--set", "n=3", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["type"] for event in events][:3] == [
        "run.started",
        "superstep.started",
        "node.started",
    ]
    assert events[-1]["type"] == "run.completed"
    assert events[-1]["state"] == {"n": 6, "done": ["left", "right"]}
    assert done.stderr == b""


def test_a_node_that_fails_is_one_line_and_exit_code_1() -> None:
    done = run(f"{GRAPHS}:build_failing", "--quiet")
    assert (done.returncode, done.stdout) == (1, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("tidegate: the run failed: node 'fetch' failed: the source is gone")


def test_a_run_that_takes_too_long_is_ended() -> None:
    done = run(f"{GRAPHS}:build_slow", "--timeout", "0.2", "--quiet")
    assert done.returncode == 1
    assert done.stderr == b"tidegate: the run was stopped: the time was up\n"


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (("--approve",), b"approved"),
        (("--reject",), b"rejected"),
        (("--answer", '{"title": "b"}'), b'edited {"title": "b"}'),
    ],
)
def test_an_interrupt_may_be_answered_beforehand(arguments: tuple[str, ...], output: bytes) -> None:
    done = run(f"{GRAPHS}:build_asking", *arguments)
    assert (done.returncode, done.stdout) == (0, output)


def test_what_was_done_before_an_interrupt_is_not_done_again(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    done = run(f"{GRAPHS}:build_asking", "--approve", "--set", f"trace={trace}")
    assert done.stdout == b"approved"
    assert trace.read_text().split() == ["prepare", "ask", "ask"]


def test_an_interrupt_that_nobody_answers_is_exit_code_3_and_says_how_to_go_on() -> None:
    done = run(f"{GRAPHS}:build_asking", "--quiet")
    assert (done.returncode, done.stdout) == (3, b"")
    (line,) = done.stderr.decode().splitlines()
    assert "ask asks for approval: may it be published?" in line
    assert "--approve, --reject or --answer" in line


def test_a_stored_run_goes_on_in_another_process_without_doing_anything_twice(
    tmp_path: Path,
) -> None:
    trace = tmp_path / "trace"
    kept = (f"{GRAPHS}:build_asking", "--store", str(tmp_path / "runs.db"))
    first = run(*kept, "--set", "text=hello", "--set", f"trace={trace}")
    assert first.returncode == 3
    words = first.stderr.decode().splitlines()[-1].split()
    session = words[words.index("--session") + 1]
    again = run(*kept, "--session", session)
    assert again.returncode == 3, "nobody answered, and it went on"
    assert b'{"text":"hello"}' in again.stderr
    done = run(*kept, "--session", session, "--approve")
    assert (done.returncode, done.stdout) == (0, b"approved")
    assert trace.read_text().split() == ["prepare", "ask", "ask"]


async def test_a_stored_run_that_was_killed_goes_on(tmp_path: Path) -> None:
    kept = (f"{GRAPHS}:build_resting", "--store", str(tmp_path / "runs.db"), "--session", "s")
    go = tmp_path / "go"
    trace = tmp_path / "trace"
    begin = ("gateway", "run", *kept, "--set", f"trace={trace}", "--set", f"text={go}")
    async with at_a_terminal(*begin) as screen:
        await screen.until("✓ prepare")
        await screen.until("resting")
        screen.process.kill()
        await screen.process.wait()
    go.touch()
    done = await asyncio.to_thread(run, *kept)
    assert (done.returncode, done.stdout.decode()) == (0, str(go))
    assert trace.read_text().split() == ["prepare"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((f"{GRAPHS}:nothing",), f"file '{GRAPHS}' has no 'nothing'"),
        (("nowhere.py:graph",), "cannot load 'nowhere.py': FileNotFoundError: "),
        ((GRAPHS,), f"'{GRAPHS}' is not FILE.py:NAME, for example graph.py:graph"),
        ((f"{GRAPHS}:FOR_EVER",), f"{GRAPHS}:FOR_EVER is of type float: expected "),
        ((f"{GRAPHS}:graph", "--input", "{n: 3}"), "this is no JSON: {n: 3}"),
        ((f"{GRAPHS}:graph", "--input", "@nowhere.json"), "cannot read 'nowhere.json'"),
        ((f"{GRAPHS}:graph", "--set", "n"), "--set 'n' is not KEY=VALUE"),
        ((f"{GRAPHS}:graph", "--answer", "nope"), "--answer 'nope' is no JSON"),
        ((f"{GRAPHS}:graph", "--session", "s"), "--session goes with --store"),
        ((f"{AGENTS}:weather",), "an agent needs --input"),
        ((f"{AGENTS}:weather", "--set", "n=3"), "--set goes with graphs"),
        ((f"{AGENTS}:weather", "-i", "x", "--store", "x.db"), "--store keeps graphs"),
    ],
)
def test_what_cannot_begin_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], reason: str
) -> None:
    done = run(*arguments)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith(f"tidegate: {reason}")


def test_a_file_that_is_called_like_a_module_is_found(tmp_path: Path) -> None:
    source = (ROOT / GRAPHS).read_text()
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "json.py").write_text(source)
    assert run("here/json.py:graph", "--set", "n=2", cwd=tmp_path).stdout == b"4\n"


# --- at a terminal -----------------------------------------------------------------------------


@pytest.mark.rows("S48")
async def test_a_progress_bar_grows_at_a_terminal_and_ctrl_c_cancels() -> None:
    async with at_a_terminal("gateway", "run", f"{GRAPHS}:build_slow") as screen:
        await screen.until("40% holding")
        assert "━" in screen.text
        screen.type("\x03")
        await screen.until("[stopped]")
        assert await screen.end() == 130
        assert "\x1b[?25h" in screen.raw


async def test_an_interrupt_is_asked_inline_at_a_terminal() -> None:
    asked = ("gateway", "run", f"{GRAPHS}:build_asking")
    async with at_a_terminal(*asked, pipe_out=True) as screen:
        await screen.until("? ask asks for approval: may it be published?")
        await screen.until("[e]dit: ")
        screen.type('e "a title"\n')
        assert await screen.end() == 0
        assert screen.out == b'edited "a title"'
