"""Structured pruning for any PyTorch network: make channels zero, remove them exactly, write a checked ONNX bundle."""

from .errors import UnsupportedError
from .groups import Groups, channel_groups
from .shrink import NotEqualError, Shrunk, shrink
from .sparsity import Sparsifier

__all__ = ["Groups", "NotEqualError", "Shrunk", "Sparsifier", "UnsupportedError", "channel_groups", "shrink"]
