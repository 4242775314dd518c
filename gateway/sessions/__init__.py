"""Sessions: one writer each, obeying commands and running agents; state is a fold of the log."""
