"""The base of all that the runtime raises on purpose."""

from __future__ import annotations

__all__ = ["RuntimeFault"]


class RuntimeFault(Exception):
    """Base of all that the runtime raises on purpose."""

    code = "runtime_fault"
    retryable = False
