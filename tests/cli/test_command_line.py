"""The command line in real processes: help, version, and every way to be refused at the start."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.cli.support import process
from tests.cli.support.process import ROOT
from tests.support.server import running_server

SETTINGS = {
    "COLUMNS": "100",
    "TIDEGATE_LOG_LEVEL": "error",  # a warning about this machine's SQLite is no refusal
}

AGENTS = """
from runtime.agent import Agent
from runtime.models.scripted import ScriptedModel, say
from runtime.registry import Registry

parrot = Agent("parrot", ScriptedModel(lambda request: say("hello")))
registry = Registry(parrot)
empty = Registry()
number = 42

class team:
    registry = registry

def make():
    return registry

def fail():
    raise RuntimeError("no\\nluck")

def nothing():
    return None
"""


def tidegate(*arguments: str, cwd: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    done = process.tidegate(*arguments, cwd=cwd, **{**SETTINGS, **more})
    return text_of(done)


def from_nothing(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as users do, and not as a copy of a process that has imported all."""
    return text_of(process.afresh("-m", "gateway", *arguments, cwd=ROOT, **SETTINGS))


def text_of(
    done: subprocess.CompletedProcess[bytes],
) -> subprocess.CompletedProcess[str]:
    texts = (done.stdout.decode(), done.stderr.decode())
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Check that a start was refused as promised; return the one line."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tidegate: ")
    return line


def test_without_a_command_the_help_is_shown_with_examples() -> None:
    asked = from_nothing("--help")
    assert asked.returncode == 0
    assert "tidegate serve agents:registry" in asked.stdout
    bare = from_nothing()
    assert "Examples" in bare.stdout + bare.stderr


def test_the_help_of_serve_names_every_option_with_its_variable_and_default() -> None:
    text = tidegate("serve", "--help").stdout
    for option in ("host", "port", "data", "engine", "model", "log-level"):
        assert f"--{option}" in text
        assert f"TIDEGATE_{option.upper().replace('-', '_')}" in text
    assert "127.0.0.1" in text
    assert "8080" in text
    assert "Examples" in text


def test_the_version_is_that_of_the_distribution() -> None:
    assert from_nothing("--version").stdout == "Tidegate 0.1.0\n"


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("agents", "'agents' is not MODULE:REGISTRY, for example agents:registry"),
        (":registry", "':registry' is not MODULE:REGISTRY, for example agents:registry"),
        ("nowhere:registry", "cannot import 'nowhere': ModuleNotFoundError: "),
        ("broken:registry", "cannot import 'broken': SyntaxError: "),
        ("agents:missing", "module 'agents' has no 'missing'"),
        ("agents:team.missing", "module 'agents' has no 'team.missing'"),
        (
            "agents:number",
            "agents:number is of type int: expected a Registry, an Agent, a graph, or ",
        ),
        (
            "agents:nothing",
            "agents:nothing is of type NoneType: expected a Registry, an Agent, a graph, or ",
        ),
        ("agents:fail", "agents:fail failed when called: RuntimeError: no luck"),
        ("agents:empty", "agents:empty has no agents"),
    ],
)
def test_a_bad_module_path_is_one_clear_line_and_exit_code_2(
    target: str, reason: str, tmp_path: Path
) -> None:
    (tmp_path / "agents.py").write_text(AGENTS)
    (tmp_path / "broken.py").write_text("def (:\n")
    line = refused(tidegate("serve", target, "--engine", "memory", cwd=tmp_path))
    assert line.startswith(f"tidegate: {reason}")


@pytest.mark.parametrize("name", ["registry", "parrot", "make", "team.registry"])
async def test_a_registry_an_agent_or_a_function_from_this_folder_is_served(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "agents.py").write_text(AGENTS)
    here = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    async with running_server(tmp_path / "data", [f"agents:{name}"], here) as server:
        assert any("parrot" in line for line in server.output)
        assert await server.stop() == 0


def test_a_bad_flag_is_refused_by_name() -> None:
    done = from_nothing("serve", "--engine", "tape")
    assert done.returncode == 2
    assert "--engine" in done.stderr
    assert "TIDEGATE_PORT" in tidegate("serve", TIDEGATE_PORT="abc").stderr


def test_a_bad_variable_without_a_flag_is_refused_by_name() -> None:
    line = refused(tidegate("serve", TIDEGATE_KEEPALIVE_S="soon"))
    assert line.startswith("tidegate: TIDEGATE_KEEPALIVE_S: ")


def test_a_port_that_is_taken_is_one_clear_line_and_exit_code_2(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        line = refused(tidegate("serve", "--port", port, "--data", str(tmp_path)))
    assert port in line


def test_a_data_directory_that_cannot_be_is_one_clear_line_and_exit_code_2(
    tmp_path: Path,
) -> None:
    # A file where a directory must be: refused to every user, while root may write anywhere else.
    (tmp_path / "file").write_text("")
    data = tmp_path / "file" / "data"
    assert str(data) in refused(tidegate("serve", "--port", "0", "--data", str(data)))


async def test_a_second_server_on_the_same_data_is_one_clear_line_and_exit_code_2(
    tmp_path: Path,
) -> None:
    async with running_server(tmp_path):
        second = await asyncio.to_thread(tidegate, "serve", "--port", "0", "--data", str(tmp_path))
    assert str(tmp_path) in refused(second)


async def test_the_greeting_tells_the_address_and_how_to_stop(tmp_path: Path) -> None:
    async with running_server(tmp_path, afresh=True) as server:
        text = "".join(server.output)
        assert f"Tidegate 0.1.0  http://127.0.0.1:{server.port}  (Ctrl-C to stop)" in text
        assert f"sqlite in {tmp_path}" in text
        for agent in ("assistant", "echo", "tools"):
            assert agent in text


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_stops_the_server_in_order_with_exit_code_0(
    how: signal.Signals, tmp_path: Path
) -> None:
    async with running_server(tmp_path, ["--engine", "memory"], afresh=True) as server:
        greeting = len(server.output)
        assert await server._end(how) == 0
        said = [json.loads(line)["event"] for line in server.output[greeting:]]
        assert said == ["the server stops", "the server has stopped"]


async def test_every_flag_may_come_from_the_environment(tmp_path: Path) -> None:
    environment = {"TIDEGATE_ENGINE": "memory", "TIDEGATE_LOG_LEVEL": "error"}
    async with running_server(tmp_path, environment=environment) as server:
        assert any("memory" in line for line in server.output)
    assert not (tmp_path / "tidegate.db").exists()


@pytest.mark.parametrize("model", ["no-such-model", "/nowhere/model.gguf"])
def test_a_model_that_cannot_be_had_is_refused(tmp_path: Path, model: str) -> None:
    line = refused(tidegate("serve", "--data", str(tmp_path), "--model", model))
    assert model in line
    assert "OPENAI_API_KEY" in line
