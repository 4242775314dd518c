"""The wires of the five source systems, each at its own paths."""
