"""Several real nodes on one database, each with a way to it that a test can make bad."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from urllib.parse import urlsplit, urlunsplit

import aiohttp

from tests.faults.clients import World
from tests.faults.history import History
from tests.faults.proxy import Proxy, running_proxy
from tests.support.server import Server

__all__ = ["HURRIED", "LEASE", "Node", "Nodes", "running_nodes", "through"]

LEASE = 3.0
"""Seconds of a lease in these tests, where nothing else is said; users have 20. Less, and a node that
gets no processor for a moment on a busy machine would lose its runs."""

START_LIMIT = 120.0
"""Seconds in which a node starts, beside others that start, on a busy machine."""

HURRIED = {"TIDEGATE_DRAIN_RUNS_S": "0.2"}
"""Lets nodes that stop hand their runs over in mid-sentence, and not at the end of it."""

NOBODY = "http://127.0.0.1:9/v1"
"""An address of a model at which nobody answers: the local one would take seconds to load."""


class Node(Server):
    """One node.

    Attributes:
        name: What the history calls it.
        way: The proxy through which it reaches the database; None if it does so directly.
        frozen: Whether it stands still.
    """

    def __init__(
        self, name: str, database: str, folder: Path, settings: Mapping[str, str], way: Proxy | None
    ) -> None:
        """Make a node; `start` starts it.

        Args:
            name: What the history calls it.
            database: The address of the database as this node is told it.
            folder: A data directory, of which it has no need.
            settings: Its environment.
            way: See the class.
        """
        usual = {"TIDEGATE_OPENAI_BASE_URL": NOBODY, "TIDEGATE_LEASE_S": str(LEASE)}
        super().__init__(folder, ("--engine", database), {**usual, **settings})
        self.name = name
        self.way = way
        self.frozen = False
        self.start_limit = START_LIMIT

    @property
    def up(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.returncode is None

    def freeze(self) -> None:
        """Let it stand still, as a machine does that has no memory left or is moved."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on, with no idea that time has passed."""
        os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    async def refresh(self) -> None:
        """Make it as it was in the beginning: there, awake, and with a good way to the database."""
        if self.up and self.frozen:
            self.thaw()
        if not self.up:
            await self.restart()
        if self.way is not None:
            self.way.refuse = False
            self.way.change_all(delay=0.0, silent=False, stalled=False)


class Nodes:
    """The nodes of one database, in order."""

    def __init__(self, nodes: Sequence[Node], database: str) -> None:
        """Make it.

        Args:
            nodes: Those that there are.
            database: The address of the database itself, with no proxy before it.
        """
        self._nodes = nodes
        self.database = database

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._nodes)

    def __iter__(self) -> Iterator[Node]:
        """Go through all of them."""
        return iter(self._nodes)

    def __getitem__(self, place: int) -> Node:
        """Return one."""
        return self._nodes[place]

    def world(
        self,
        history: History,
        http: aiohttp.ClientSession,
        random: Random,
        pauses: tuple[float, float],
    ) -> World:
        """Return a world whose clients connect to one of the nodes, by chance, each time."""
        first, *others = (node.url for node in self._nodes)
        return World(history, http, first, random, pauses, others)

    async def refresh(self) -> None:
        """Make all of them as they were in the beginning."""
        async with asyncio.TaskGroup() as tasks:
            for node in self._nodes:
                tasks.create_task(node.refresh())

    def words(self) -> str:
        """Return what the nodes have logged lately."""
        return "\n".join(f"{node.name}: {''.join(node.output[-20:])}" for node in self._nodes)


def through(database: str, port: int) -> str:
    """Return the address of a database as it is behind a proxy."""
    parts = urlsplit(database)
    account, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{account}{at}127.0.0.1:{port}"))


@asynccontextmanager
async def running_nodes(
    database: str,
    folder: Path,
    count: int = 3,
    *,
    settings: Mapping[str, str] | None = None,
    each: Sequence[Mapping[str, str]] = (),
    programs: Sequence[Sequence[str]] = (),
    apart: bool = False,
) -> AsyncIterator[Nodes]:
    """Run nodes for the length of a block; they are killed then, whatever state they are in.

    Args:
        database: The address of their database.
        folder: For what they need none of.
        count: How many.
        settings: Environment of all.
        each: Environment of each beside it.
        programs: What Python runs instead of the gateway, for each.
        apart: Whether each reaches the database through a proxy of its own.
    """
    async with AsyncExitStack() as stack:
        nodes = []
        for number in range(count):
            way = None
            if apart:
                way = await stack.enter_async_context(
                    running_proxy(urlsplit(database).port or 5432)
                )
            address = database if way is None else through(database, way.port)
            own = each[number] if each else {}
            environment = {**(settings or {}), **own}
            node = Node(f"node-{number}", address, folder / str(number), environment, way)
            if programs:
                node.program = programs[number]
            nodes.append(node)
        for node in nodes:
            stack.push_async_exit(node.__aexit__)
        async with asyncio.TaskGroup() as starting:
            for node in nodes:
                starting.create_task(node.start())
        yield Nodes(nodes, database)
