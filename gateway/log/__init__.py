"""The log: positions, entries, the engine seam, and the one loop that reads."""
