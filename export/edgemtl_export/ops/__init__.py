"""One rule an operator family; importing this package registers them all."""

from . import convolution, movement, pointwise, pooling

__all__ = ["convolution", "movement", "pointwise", "pooling"]
