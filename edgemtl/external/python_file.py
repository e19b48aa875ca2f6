"""A network that a function of the user's own file makes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..errors import EdgemtlError, brief
from .custom import described
from .library import load_weights
from .network import ExternalNetwork
from .options import OpenOptions
from .source import NetworkSource


def open_network(source: NetworkSource, options: OpenOptions) -> ExternalNetwork:
    """Call the function, which returns a module, or a module and its example inputs; raises `EdgemtlError`."""
    module = _load(source)
    function: Any = getattr(module, source.name, None)
    if not callable(function):
        known = [
            n
            for n, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", "") == module.__name__
        ]
        raise EdgemtlError(f"{source.path}: has no function '{source.name}'; it has {', '.join(known) or 'none'}")
    try:
        with redirect_stdout(sys.stderr):  # what it prints is no answer of ours
            result = function()
    except (Exception, SystemExit) as error:  # the user's code may fail in any way
        raise EdgemtlError(f"{source}: failed ({brief(error)})") from error
    network, examples = result if isinstance(result, tuple) and len(result) == 2 else (result, ())
    if not isinstance(network, nn.Module):
        raise EdgemtlError(f"{source}: returned a {type(network).__name__}; a torch.nn.Module is wanted")
    if options.weights:
        load_weights(source, network, options.weights)
    inputs = (examples,) if isinstance(examples, Tensor) else tuple(examples) if isinstance(examples, Sequence) else ()
    return described(source, network.eval(), options, inputs)


def _load(source: NetworkSource) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"edgemtl_network_{source.path.stem}", source.path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    folder = str(source.path.resolve().parent)
    sys.path.insert(0, folder)  # it may import its neighbours
    sys.modules[spec.name] = module
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # the user's code may fail in any way
        raise EdgemtlError(f"{source.path}: cannot be imported ({brief(error)})") from error
    finally:
        sys.path.remove(folder)
    return module
