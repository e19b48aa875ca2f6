"""ROS 2 messages without ROS: the types (`ros`), their bytes (`cdr`), and frames and results told in them (`ros`)."""

from __future__ import annotations

from .cdr import Message, definition, read, write

__all__ = ["Message", "definition", "read", "write"]
