"""Finding and describing actions, and the ones built in."""
