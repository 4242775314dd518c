"""The command line: `tidegate serve`, `chat`, `run`. What goes wrong is one line and an exit code.

0    done
1    the run failed, or somebody else ended it
2    bad usage, or it could not begin
3    the run waits for a human, and there is nobody to ask
130  Ctrl-C
"""

from __future__ import annotations

from gateway.cli.commands import main
from gateway.cli.loading import load_registry
from gateway.cli.logs import configure_logging

__all__ = ["configure_logging", "load_registry", "main"]
