"""How long work takes and what it needs, learned from what was done."""
