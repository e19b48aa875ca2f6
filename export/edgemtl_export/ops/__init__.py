"""One rule an operator family; importing this package registers them all."""

from . import attention, convolution, movement, normalisation, pointwise, pooling

__all__ = ["attention", "convolution", "movement", "normalisation", "pointwise", "pooling"]
