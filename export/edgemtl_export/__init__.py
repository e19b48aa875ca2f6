"""Structured pruning for any PyTorch network: make channels zero, remove them exactly, write a checked ONNX bundle."""

from .errors import UnsupportedError
from .groups import Groups, channel_groups
from .shrink import NotEqualError, Shrunk, shrink
from .sparsity import Sparsifier
from .teacher import Teacher

__all__ = ["Groups", "NotEqualError", "Shrunk", "Sparsifier", "Teacher", "UnsupportedError", "channel_groups", "shrink"]
