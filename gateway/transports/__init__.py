"""Transports: cursors on the log. SSE, WebSocket and NDJSON read it from a position and write frames."""
