"""What one engine alone can show: files, threads, crashes."""

from __future__ import annotations
