"""Structured pruning: remove zero channels exactly and write a checked ONNX bundle, for any PyTorch network."""

from .errors import UnsupportedError
from .groups import Groups, channel_groups
from .shrink import NotEqualError, Shrunk, shrink

__all__ = ["Groups", "NotEqualError", "Shrunk", "UnsupportedError", "channel_groups", "shrink"]
