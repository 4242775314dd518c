"""A client of a Tidegate server, as PROTOCOL.md tells it. It knows nothing of the server's parts.

`server.py` asks over HTTP, `session.py` follows over WebSocket, `wire.py` reads what comes.
"""
