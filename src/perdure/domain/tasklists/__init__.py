"""Task lists: their values and rules, and those of the snapshots that they restart from."""
