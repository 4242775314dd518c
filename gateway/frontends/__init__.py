"""What other people's clients speak: each protocol at its own paths, on the same sessions."""
