"""Small agents to start from; each runs with `tidegate serve examples.NAME:OBJECT`."""
