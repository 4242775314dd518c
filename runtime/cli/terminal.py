"""Standard output for content, standard error for everything else.

On a terminal there are colours, a spinner and progress bars; on a pipe, plain lines.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

__all__ = ["Terminal", "is_terminal", "printable"]

FRAMES_PER_SECOND = 12.5
"""What the spinner's own frames, 80 ms apart, are made for."""

BAR_WIDTH = 24
"""Columns of a progress bar: leaves room for a name and a sentence in 80 columns."""

# Whatever a model, a tool or a server says could move the cursor, rename the window or hide text.
_CONTROLS = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return a text without what would steer a terminal."""
    return text.translate(_CONTROLS)


def is_terminal(stream: TextIO) -> bool:
    """Tell whether somebody looks at this stream."""
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


@dataclass(slots=True)
class _Row:
    """Something that is going on: one line with a spinner."""

    spinner: Spinner
    label: str
    message: str = ""
    fraction: float | None = None


class Terminal:
    """Where a command line writes.

    Attributes:
        gone: Whether whoever read standard output has left (`| head -1`).
        ends_answers: Whether an answer ends with a line's end on a pipe too: where several follow
            each other.
    """

    def __init__(
        self,
        *,
        color: bool | None = None,
        quiet: bool = False,
        program: str = "tidegate",
        out: TextIO | None = None,
        err: TextIO | None = None,
    ) -> None:
        """Use the process's streams, or these.

        Args:
            color: Whether to use colours; None for "on a terminal, unless `NO_COLOR` is set".
                Without colours there is no spinner; a spinner turns on a real terminal only.
            quiet: Whether only content and failures are shown.
            program: The name before a failure.
            out: Instead of standard output.
            err: Instead of standard error.
        """
        self.gone = False
        self.ends_answers = False
        self._out = out or sys.stdout
        self._err = err or sys.stderr
        self._quiet = quiet
        self._program = program
        self._out_shown = is_terminal(self._out)
        self._err_shown = is_terminal(self._err)
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        fancy = color if color is not None else self._err_shown and not plain
        self._lively = fancy and self._err_shown and not quiet
        self._console = Console(
            file=self._err,
            force_terminal=fancy,
            color_system="auto" if self._lively else "standard" if fancy else None,
            no_color=not fancy,
            highlight=False,
            legacy_windows=False,
        )
        self._rows: dict[object, _Row] = {}
        self._live: Live | None = None
        self._mid_line = False
        for stream in (self._out, self._err):
            if hasattr(stream, "reconfigure"):  # a text that the encoding lacks is no failure
                stream.reconfigure(errors="replace")

    # --- content -------------------------------------------------------------------------------

    def content(self, text: str) -> None:
        """Write a piece of the answer, at once. On a pipe: exactly these characters."""
        if not text:
            return
        self._hide()
        self._write(printable(text) if self._out_shown else text)
        self._mid_line = not text.endswith("\n")

    def break_content(self) -> None:
        """Begin a new line of content, unless at the beginning of one; on a pipe too."""
        if self._mid_line:
            self._write("\n")
            self._mid_line = False

    def end_content(self) -> None:
        """End the answer: with a line's end on a terminal, as it is on a pipe."""
        if self._out_shown or self.ends_answers:
            self.break_content()
        self._mid_line = False

    def _write(self, text: str) -> None:
        if self.gone:
            return
        try:
            self._out.write(text)
            self._out.flush()
        except (BrokenPipeError, ValueError):
            self._leave(self._out)

    def _leave(self, stream: TextIO) -> None:
        """Send what is still written into the void, so that Python's own flush is quiet too."""
        self.gone = True
        try:
            void = os.open(os.devnull, os.O_WRONLY)
            os.dup2(void, stream.fileno())
            os.close(void)
        except (OSError, ValueError):
            return

    # --- all the rest --------------------------------------------------------------------------

    def note(self, text: str, style: str = "dim") -> None:
        """Show a line of progress; nothing if the terminal is quiet."""
        if not (self._quiet or self.gone):
            self._line(Text(printable(text), style))

    def say(self, text: str) -> None:
        """Show a line that was asked for, also on a quiet terminal."""
        self._line(Text(printable(text)))

    def fail(self, text: str) -> None:
        """Show what went wrong, in one line, also on a quiet terminal."""
        message = " ".join(printable(text).split())
        self._line(Text(f"{self._program}: {message}", "red"))

    def prompt(self, text: str) -> None:
        """Write a question on standard error, without ending the line."""
        self._fresh_line()
        self._line(Text(printable(text), "bold"), end="")

    def _line(self, text: Text, end: str = "\n") -> None:
        self._fresh_line()
        try:
            self._console.print(text, soft_wrap=True, end=end)
        except BrokenPipeError:
            self._leave(self._err)

    def _fresh_line(self) -> None:
        """Begin a new line on the screen. The characters on a pipe stay what they are."""
        if not (self._mid_line and self._out_shown):
            return
        self._mid_line = False
        if self._err_shown:
            self._err.write("\n")
            self._err.flush()
        else:
            self._write("\n")

    # --- what is going on ----------------------------------------------------------------------

    def busy(self, key: object, label: str) -> None:
        """Show that something is going on, until `idle` is called with its key."""
        self._rows[key] = _Row(Spinner("dots", style="cyan"), printable(label))
        self._show()

    def progress(self, key: object, message: str, fraction: float | None) -> None:
        """Show how far it is.

        Args:
            key: What `busy` was called with; otherwise nothing happens.
            message: A few words.
            fraction: From 0 to 1, if that is known.
        """
        row = self._rows.get(key)
        if row is None:
            return
        row.message = " ".join(printable(message).split())
        row.fraction = fraction
        self._show()

    def idle(self, key: object) -> None:
        """Take it away again."""
        self._rows.pop(key, None)
        if not self._rows:
            self._hide()

    def rest(self) -> None:
        """Take everything away that moves, before something else writes."""
        self._rows.clear()
        self._hide()

    @property
    def lively(self) -> bool:
        """Whether what is going on can be seen: on a terminal. Otherwise say it in lines."""
        return self._lively

    def _show(self) -> None:
        if not self._lively or self._live is not None:
            return  # a running display draws itself anew
        self._fresh_line()
        self._live = Live(
            get_renderable=self._picture,
            console=self._console,
            refresh_per_second=FRAMES_PER_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)

    def _hide(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()

    def _picture(self) -> RenderableType:
        """Draw the rows; called from the display's thread too."""
        table = Table.grid(padding=(0, 1))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for row in tuple(self._rows.values()):
            bar = ""
            drawn: RenderableType = bar
            if row.fraction is not None:
                drawn = ProgressBar(total=1, completed=row.fraction, width=BAR_WIDTH)
            percent = "" if row.fraction is None else f"{row.fraction:4.0%} "
            table.add_row(row.spinner, row.label, drawn, Text(percent + row.message, "dim"))
        return table
