"""Structured pruning: remove zero channels exactly and write a checked ONNX bundle, for any PyTorch network."""

from .groups import Groups, channel_groups
from .shrink import NotEqualError, Shrunk, shrink

__all__ = ["Groups", "NotEqualError", "Shrunk", "channel_groups", "shrink"]
