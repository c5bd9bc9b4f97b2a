"""Snapshots of task lists in a directory of this node."""
