"""The network as it is shipped: normalisation of camera bytes, the trained network, decoding of its heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.engine import Arrays

from .decoding import DECODERS
from .inputs import normalise


class Deployed(nn.Module):
    """A network with its pre- and post-processing: uint8 (B, H, W, C) images in, one decoded tensor a head out.

    Images are in the order of ``inputs``, outputs in that of ``heads``.
    """

    def __init__(self, network: nn.Module, inputs: tuple[Input, ...], heads: tuple[Head, ...]) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs
        self.heads = heads
        self.size = (inputs[0].height, inputs[0].width)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the decoded output of every head."""
        # The cast comes first: TensorRT takes no transposition of bytes.
        named = {
            spec.name: normalise(image.float().permute(0, 3, 1, 2), spec)
            for spec, image in zip(self.inputs, images, strict=True)
        }
        raw = self.network(**named)
        return tuple(DECODERS[head.decoder](raw[head.name], self.size) for head in self.heads)

    def blank_images(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Return black images for its inputs, as examples for an export."""
        return tuple(torch.zeros(batch, s.height, s.width, s.channels, dtype=torch.uint8) for s in self.inputs)

    def run(self, images: Arrays) -> Arrays:
        """Run on arrays by input name, as an engine of the runtime does: in full single precision, on any device."""
        device = next((tensor.device for tensor in self.network.state_dict().values()), torch.device("cpu"))
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs = self(*(torch.from_numpy(images[spec.name]).to(device) for spec in self.inputs))
        return {head.name: out.cpu().numpy() for head, out in zip(self.heads, outputs, strict=True)}
