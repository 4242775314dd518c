"""Follow a session through whatever happens to its server: `python examples/follow.py [URL] [SESSION]`.

Kill the server with -9 in the middle of an answer, and start it again: nothing is missing here, and
nothing comes twice.
"""

from __future__ import annotations

import asyncio
import sys

from gateway.client import Client, Entry, Reset


async def follow(url: str, session_id: str) -> None:
    """Print the text of a session as it comes, from its beginning."""
    async with Client(url) as client:
        await client.create(session_id, agent="echo")
        async for item in client.session(session_id, after="0"):
            match item:
                case Reset():
                    texts = [message["text"] for message in item.snapshot["messages"]]
                    print(f"\n[{item.reason}]", *texts, sep="\n")
                case Entry(type="message.delta"):
                    print(item.data["text"], end="", flush=True)
                case Entry(type="message.completed" | "input.accepted" | "run.attempt_started"):
                    print(f"\n[{item.seq} {item.type}]")
                case Entry():
                    pass


if __name__ == "__main__":
    url, session_id = [*sys.argv[1:], "http://127.0.0.1:8080", "demo"][:2]
    asyncio.run(follow(url, session_id))
