"""The local model's process: llama.cpp's OpenAI-compatible server on loopback.

`runtime.models.local_process` starts this file by its path and speaks to it so:

- standard input, first line: its settings, one JSON object (not the command line, which other
  users of the machine can read: it holds the key);
- standard output, one line: `{"url": …}` once it listens, or `{"error": …}`, and it ends;
- standard input at its end: whoever started it is gone, and it ends at once;
- standard error: the log of llama.cpp.

It imports nothing of this project, so it starts fast and wherever the project lies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
from typing import Any, NoReturn

__all__ = ["main"]

PR_SET_PDEATHSIG = 1
"""From `<sys/prctl.h>`: the signal that the kernel sends when the parent dies."""

LOG_WARNINGS = 2
"""llama.cpp's level that logs errors and warnings, and no line for each request."""

PROMPT_CACHE_MIB = 256
"""Old prompts kept in memory, MiB; llama.cpp's own limit is 8 GiB. A full slot takes 189."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies, where the kernel is Linux.

    The end of standard input says the same everywhere, but is not seen while a model is loading.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def listen(settings: dict[str, Any]) -> tuple[object, str]:
    """Load the model and serve it on a port of 127.0.0.1 that the system chooses.

    Args:
        settings: `path`, `name`, `key`, `context` (tokens for each slot), `parallel` (slots),
            `threads`, `max_tokens`, `temperature`, `top_p`, `repeat_penalty`.

    Returns:
        The server, to be kept, and its address.

    Raises:
        ImportError: If `xllamacpp` is not installed.
        RuntimeError: If the model cannot be loaded.
    """
    import xllamacpp  # noqa: PLC0415 - its absence is reported as a sentence, not as a traceback

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["name"]}
    params.api_keys = [settings["key"]]
    params.port = 0
    params.cors_origins = ""
    params.ui = False
    params.verbosity = LOG_WARNINGS
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context"] * settings["parallel"]
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_predict = settings["max_tokens"]
    params.sampling.temp = settings["temperature"]
    params.sampling.top_p = settings["top_p"]
    params.sampling.penalty_repeat = settings["repeat_penalty"]
    server = xllamacpp.Server(params)
    return server, server.listening_address


def main() -> NoReturn:
    """Serve until standard input ends."""
    die_with_parent()
    # Whatever else prints to standard output must not fill a pipe that nobody reads any more.
    report = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = json.loads(sys.stdin.readline() or "null")
    if settings is None:
        os._exit(0)
    try:
        server, url = listen(settings)
    except Exception as error:  # noqa: BLE001 - whatever it was, the parent is told
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=report, flush=True)
        os._exit(1)
    print(json.dumps({"url": url}), file=report, flush=True)
    report.close()
    sys.stdin.read()
    del server
    os._exit(0)


if __name__ == "__main__":
    main()
