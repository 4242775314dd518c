"""The words of the five source systems."""
