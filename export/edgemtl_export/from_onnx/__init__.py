"""An ONNX network as a torch module that torch.export can trace, and that can be trained and pruned."""

from .network import OnnxNetwork, read_onnx

__all__ = ["OnnxNetwork", "read_onnx"]
