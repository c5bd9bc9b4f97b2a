"""Task lists as replicas: facts in a library of conflict-free replicated data types."""
