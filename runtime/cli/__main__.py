"""`python -m runtime.cli "question"`."""

from __future__ import annotations

from runtime.cli.ask import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
