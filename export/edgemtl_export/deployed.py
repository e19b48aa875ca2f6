"""The network as it is shipped: normalisation of camera bytes, the trained network, decoding of its heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgemtl_runtime.bundle import Head, Input
from edgemtl_runtime.engine import Arrays

from .camera_size import GraphLetterbox, Size, at_camera_size
from .decoding import DECODERS
from .inputs import normalise


class Deployed(nn.Module):
    """A network with its pre- and post-processing: uint8 (B, H, W, C) images in, one decoded tensor a head out.

    Images are in the order of ``inputs``, outputs in that of ``heads``. With a ``camera_size`` (height, width) images
    have that size, they are resized in the graph, and outputs are in their pixels; else all is in the network's.
    """

    def __init__(
        self,
        network: nn.Module,
        inputs: tuple[Input, ...],
        heads: tuple[Head, ...],
        camera_size: Size | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.inputs = at_camera_size(inputs, camera_size)
        self.heads = heads
        self.size = (inputs[0].height, inputs[0].width)
        self.letterbox = None if camera_size is None else GraphLetterbox(camera_size, self.size)

    def forward(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Return the decoded output of every head."""
        raw = self.network(**self.network_inputs(*images))
        outputs = []
        for head in self.heads:
            output = DECODERS[head.decoder](raw[head.name], self.size)
            if self.letterbox is not None:
                output = self.letterbox.to_camera(output, head.decoder)
            outputs.append(output.to(torch.uint8) if head.decoder == "label_map" else output)
        return tuple(outputs)

    def network_inputs(self, *images: Tensor) -> dict[str, Tensor]:
        """Return what the network takes, normalised (B, C, H, W) by input name, of uint8 (B, H, W, C) images."""
        named = {}
        for spec, image in zip(self.inputs, images, strict=True):
            pixels = image.float().permute(0, 3, 1, 2)  # the cast comes first: TensorRT takes no transposition of bytes
            if self.letterbox is not None:
                pixels = self.letterbox.to_network(pixels, spec.blank)
            named[spec.name] = normalise(pixels, spec)
        return named

    def blank_images(self, batch: int = 1) -> tuple[Tensor, ...]:
        """Return black images for its inputs, as examples for an export."""
        return tuple(torch.zeros(batch, s.height, s.width, s.channels, dtype=torch.uint8) for s in self.inputs)

    def run(self, images: Arrays) -> Arrays:
        """Run on arrays by input name, as an engine of the runtime does: in full single precision, on any device."""
        device = next((tensor.device for tensor in self.network.state_dict().values()), torch.device("cpu"))
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            outputs = self(*(torch.from_numpy(images[spec.name]).to(device) for spec in self.inputs))
        return {head.name: out.cpu().numpy() for head, out in zip(self.heads, outputs, strict=True)}
