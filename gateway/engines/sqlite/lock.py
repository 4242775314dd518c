"""One server per data directory."""

from __future__ import annotations

import fcntl
from io import FileIO
from pathlib import Path

from gateway.errors import StartupRefused

__all__ = ["lock_directory"]


def lock_directory(directory: Path) -> FileIO:
    """Make the directory if it is missing, and lock it until the returned file is closed.

    The lock goes with the process, however it ends; the file stays and means nothing by itself.

    Raises:
        StartupRefused: If the directory cannot be used or another server uses it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = FileIO(directory / "tidegate.lock", "a")
    except OSError as error:
        raise StartupRefused(f"cannot write in {directory}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise StartupRefused(f"another server uses {directory}") from error
    except OSError as error:
        file.close()
        raise StartupRefused(f"cannot lock {directory}: {error.strerror}") from error
    return file
