"""Experiments that train several networks: single-task references, LOMT, adaptation to a new task."""
