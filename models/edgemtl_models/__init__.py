"""Multi-task networks for paired colour and thermal cameras."""

from .multitask import STRIDE, InputSpec, MultiTask, build, zoo

__all__ = ["STRIDE", "InputSpec", "MultiTask", "build", "zoo"]
