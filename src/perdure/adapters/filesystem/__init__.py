"""A document driver on one directory of this machine: checksummed append-only segments, and the documents in memory."""
