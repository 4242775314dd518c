"""A process that has imported the gateway, of which tests make copies: see `tests.support.copies`.

Run as a script and not as a module, so that nothing of the tests is imported in a copy.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import runpy
import selectors
import signal
import socket
import sys
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).resolve().parents[2])

OTHERS = ("gateway.engines.postgres.engine", "runtime.graph", "runtime.models.openai", "uvloop")
"""What a start imports late, beside modules of the gateway."""

RARE = ("__main__", "a2a", "conformance", "engines")
"""Parts of the gateway that most starts do without, or that only a start may run."""


def import_all() -> None:
    """Import what a start would import."""
    gateway = importlib.import_module("gateway")
    for found in pkgutil.walk_packages(gateway.__path__, "gateway."):
        if not set(found.name.split(".")) & set(RARE):
            importlib.import_module(found.name)
    importlib.import_module("gateway.engines.sqlite.engine")
    for name in OTHERS:
        importlib.import_module(name)


class Original:
    """Makes copies of itself, until whoever orders them has gone."""

    def __init__(self, orders: socket.socket) -> None:
        self._orders = orders
        self._copies: dict[int, socket.socket] = {}
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()

    def run(self) -> dict[str, Any]:
        """Return in each copy what it was ordered to do; end when there is nobody any more."""
        for end in (self._woken, self._waker):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._orders, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in self._selector.select()}
            if self._woken in ready:
                self._woken.recv(4096)
                self._bury()
            if self._orders in ready:
                word, handles, _, _ = socket.recv_fds(self._orders, 1, 4)
                if not word:
                    self._leave()
                if (order := self._copy(handles)) is not None:
                    return order

    def _copy(self, handles: list[int]) -> dict[str, Any] | None:
        talk = socket.socket(fileno=handles[0])
        pid = os.fork()
        if pid:
            for handle in handles[1:]:
                os.close(handle)
            self._copies[pid] = talk
            tell(talk, pid)
            return None
        self._forget()
        for place, handle in enumerate(handles[1:]):
            os.dup2(handle, place)
            os.close(handle)
        with talk, talk.makefile("rb") as lines:
            order: dict[str, Any] = json.loads(lines.readline())
        return order

    def _forget(self) -> None:
        """Let go, in a copy, of all that is the original's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        for end in (self._orders, self._woken, self._waker, *self._copies.values()):
            end.close()

    def _bury(self) -> None:
        """Tell how each copy ended that has ended."""
        while self._copies:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._copies.pop(pid) as talk:
                tell(talk, os.waitstatus_to_exitcode(status))

    def _leave(self) -> None:
        for pid in self._copies:
            os.kill(pid, signal.SIGKILL)
        sys.exit()


def tell(talk: socket.socket, number: int) -> None:
    """Tell whoever ordered a copy its process id, or how it ended."""
    with contextlib.suppress(OSError):  # it has gone itself
        talk.sendall(b"%d\n" % number)


def become(order: dict[str, Any]) -> None:
    """Be as a process that was started like this, up to the moment at which it runs its module."""
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    # Whatever runs the tests in the background may have it ignored, and that would be inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for kind, limits in order["limits"]:
        if resource.getrlimit(kind) != tuple(limits):
            resource.setrlimit(kind, tuple(limits))
    if order["terminal"]:
        take_terminal()
    path = os.environ.get("PYTHONPATH", "")
    sys.path[:0] = [order["cwd"], *(path.split(os.pathsep) if path else [])]
    importlib.invalidate_caches()
    open_streams(unbuffered=bool(os.environ.get("PYTHONUNBUFFERED")))


def take_terminal() -> None:
    """Make standard error the terminal of this process, so that a typed Ctrl-C becomes SIGINT."""
    import fcntl  # noqa: PLC0415 - only where there are terminals
    import termios  # noqa: PLC0415

    os.setsid()
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)


def open_streams(*, unbuffered: bool) -> None:
    """Make the standard streams anew, as Python does when it starts: they follow what they are on."""
    before = (sys.stdin, sys.stdout, sys.stderr)
    for number, (name, old) in enumerate(zip(("stdin", "stdout", "stderr"), before, strict=True)):
        raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
        buffer: Any = raw if number and unbuffered else None
        if buffer is None:
            buffer = io.BufferedWriter(raw) if number else io.BufferedReader(raw)
        by_line = number == 2 or os.isatty(number)
        new = io.TextIOWrapper(
            buffer,
            encoding=old.encoding,
            errors=old.errors,
            newline="\n" if number else None,
            line_buffering=by_line and not unbuffered,
            write_through=unbuffered,
        )
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def main() -> None:
    """Import all, make copies, and in each copy run the module that was ordered."""
    sys.path[0] = ROOT
    import_all()
    del sys.path[0]
    gc.freeze()
    orders = socket.socket(fileno=int(sys.argv[1]))
    order = Original(orders).run()
    become(order)
    sys.argv = ["-m", *order["arguments"]]
    runpy.run_module(order["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
