"""Codecs: pure translations from events to a protocol's messages and frames."""
