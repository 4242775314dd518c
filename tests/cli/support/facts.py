"""Says, as JSON, what a process finds of what it was given: `python -m tests.cli.support.facts`."""

from __future__ import annotations

import io
import json
import os
import resource
import signal
import sys
import threading
from typing import Any, cast


def about(stream: io.TextIOWrapper) -> list[Any]:
    return [
        stream.encoding,
        stream.errors,
        stream.line_buffering,
        stream.write_through,
        type(stream.buffer).__name__,
        stream.fileno(),
    ]


def facts() -> dict[str, Any]:
    """Return all of them."""
    return {
        "name": __name__,
        "package": __package__,
        "program": sys.argv[0],
        "arguments": sys.argv[1:],
        "main": sys.modules["__main__"].__dict__["__file__"],
        "cwd": os.getcwd(),  # noqa: PTH109 - as the system says it
        "path": list(dict.fromkeys(sys.path)),
        "environment": dict(os.environ),
        "streams": [
            about(cast("io.TextIOWrapper", each)) for each in (sys.stdin, sys.stdout, sys.stderr)
        ],
        "given": sys.stdin.read(),
        "signals": {
            str(number): str(signal.getsignal(number)).split(" at ")[0]
            for number in signal.valid_signals()
        },
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        "threads": threading.active_count(),
        "files": [number for number in range(3, 256) if is_open(number)],
        "limits": [
            resource.getrlimit(getattr(resource, name))
            for name in sorted(dir(resource))
            if name.startswith("RLIMIT_")
        ],
    }


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    print(json.dumps(facts()))  # noqa: T201 - what it is for
    print("ünïcode", file=sys.stderr)  # noqa: T201
    sys.exit(7)
