"""The runtime at a terminal: `python -m runtime.cli "question"`, and what all command lines share.

Content goes to standard output and everything else to standard error, so that a pipe carries the
answer and nothing but the answer.
"""

from __future__ import annotations

__all__: list[str] = []
