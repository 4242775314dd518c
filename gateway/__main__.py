"""`python -m gateway` is `tidegate`."""

from __future__ import annotations

from gateway.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
