"""Programs of torch.export (.pt2) as networks."""

from __future__ import annotations

import torch

from edgemtl_export.layered import layered

from ..errors import EdgemtlError
from ..shrink import read_program
from .custom import described
from .network import ExternalNetwork
from .options import OpenOptions
from .source import NetworkSource


def open_network(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Open a program; one that could run custom code is not, unless it is trusted. Raises `EdgemtlError`."""
    exported = read_program(source.path, options.trust)
    held = exported.example_inputs
    if held is None:
        raise EdgemtlError(f"{source}: holds no example inputs; export it again with torch.export")
    args, kwargs = held
    if kwargs or not all(isinstance(x, torch.Tensor) for x in args):
        raise EdgemtlError(f"{source}: takes other than images by position; prune takes networks of images")
    spec = exported.graph_signature.user_inputs
    sizes = {n.name: n.meta["val"].shape for n in exported.graph.nodes if n.op == "placeholder" and n.name in spec}
    takes_any = all(not isinstance(size[0], int) for size in sizes.values())
    return described(
        source,
        layered(exported).eval(),
        options,
        args,
        [str(name) for name in spec],
        fixed=True,
        batch=0 if takes_any else args[0].shape[0],
    )
