"""How a command ends, whatever happens: in one line, and with the exit code that says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from gateway.client.errors import ClientFault
from gateway.errors import StartupRefused
from runtime.cli.perform import FAILED, INTERRUPTED, REFUSED
from runtime.cli.terminal import Terminal
from runtime.cli.watch import Left
from runtime.errors import RuntimeFault

__all__ = ["ended", "reason"]


def reason(error: Exception) -> str:
    """Say what an error means; those that are no faults of ours are named."""
    if isinstance(error, RuntimeFault | ClientFault):
        return str(error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def ended(terminal: Terminal) -> Iterator[None]:
    """End the command when the block raises.

    Raises:
        typer.Exit: With the exit code.
    """
    try:
        yield
    except (typer.Exit, typer.BadParameter):
        raise
    except StartupRefused as refused:
        terminal.fail(str(refused))
        raise typer.Exit(REFUSED) from None
    except Left as left:
        raise typer.Exit(left.code) from None
    except (KeyboardInterrupt, EOFError):
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told in one line
        terminal.fail(reason(error))
        raise typer.Exit(FAILED) from None
