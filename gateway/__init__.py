"""The gateway: sessions with one log each, and transports that are cursors on it."""
