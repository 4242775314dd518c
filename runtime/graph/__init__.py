"""Graphs: nodes that run side by side in supersteps, and meet after each of them.

`keys`, `command`, `view`, `merge`, `plan`, `replay` and `checks` are pure: what is kept, what nodes
answer, how writes merge, what runs next, where a run goes on, what can be wrong. `builder` puts a
graph together; `compiled` is what can run. `execution` holds the limits and the end of a run,
`supersteps` what it does, `together` how nodes run side by side, `node` how one of them is run.

`runner` is what stands around a graph that is run in sessions: `part` is one part of a session,
`recording` writes its log, `watching` shows it, `stream_event` says how, `answers` is what
humans say; `store` is the contract of `memory_store` and `sqlite_store`.
"""

from __future__ import annotations

from runtime.graph.builder import Graph, MessageGraph
from runtime.graph.command import END, Command, append, set_, to
from runtime.graph.compiled import CompiledGraph
from runtime.graph.context import NodeContext
from runtime.graph.keys import Key, ListKey
from runtime.graph.memory_store import MemoryStore
from runtime.graph.messages import MESSAGES, assistant, get_messages, user
from runtime.graph.results import ExecutionResult, collect, last
from runtime.graph.runner import Runner, RunState
from runtime.graph.sqlite_store import SqliteStore
from runtime.graph.stream_event import StreamEvent
from runtime.graph.view import View, get, get_list

__all__ = [
    "END",
    "MESSAGES",
    "Command",
    "CompiledGraph",
    "ExecutionResult",
    "Graph",
    "Key",
    "ListKey",
    "MemoryStore",
    "MessageGraph",
    "NodeContext",
    "RunState",
    "Runner",
    "SqliteStore",
    "StreamEvent",
    "View",
    "append",
    "assistant",
    "collect",
    "get",
    "get_list",
    "get_messages",
    "last",
    "set_",
    "to",
    "user",
]
