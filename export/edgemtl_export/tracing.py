"""From an nn.Module in any state that its library leaves it in to an ExportedProgram of its evaluation."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from .errors import UnsupportedError, first_sentence


def on_cpu(tree: Any) -> Any:
    """Return a tree of example inputs with its tensors on the CPU."""
    return pytree.tree_map_only(Tensor, lambda t: t.detach().cpu(), tree)


def export_module(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None, dynamic_shapes: Any = None
) -> ExportedProgram:
    """Export a module in evaluation mode. Neither the module nor its tensors change.

    What cannot be traced before its first forward pass (state that this registers) is traced after one, on a copy.
    Raises `UnsupportedError`.
    """
    lazy = [name for name, p in (*model.named_parameters(), *model.named_buffers()) if is_lazy(p)]
    if lazy:
        raise UnsupportedError(f"{type(model).__name__}: {lazy[0]} has no shape yet; run the network once before")
    args, kwargs = on_cpu((args, kwargs or {}))

    def export(copied: nn.Module) -> ExportedProgram:
        names = {name for name, _ in copied.named_buffers()}
        with torch.inference_mode(False):
            exported = torch.export.export(copied, args, kwargs, dynamic_shapes=dynamic_shapes)
        if added := {name for name, _ in copied.named_buffers()} - names:
            raise UnsupportedError(f"forward registers {min(added)}")  # torch takes it for another input's
        return exported

    try:
        return export(evaluation_copy(model))
    except Exception as error:  # a module may fail to trace in any way
        try:
            copied = evaluation_copy(model, share=False)
            with torch.no_grad():
                copied(*args, **kwargs)
            return export(copied)
        except Exception:
            name = type(model).__name__
            raise UnsupportedError(f"torch.export cannot trace {name} ({first_sentence(error)})") from error


def evaluation_copy(model: nn.Module, share: bool = True) -> nn.Module:
    """Return a copy on the CPU in evaluation mode, which shares the tensors that lie there already.

    Tensors that were computed under autograd (an old weight norm's weight, a kept activation) are copied as values;
    what cannot be copied (a lock, a file) is the same object in both.
    """
    memo: dict[int, Any] = {}
    if share:
        tensors = (*model.parameters(), *model.buffers())
        memo = {id(t): _detached(t) for t in tensors if t.device.type == "cpu"}
    try:
        with _DetachedCopies(share):
            copied = copy.deepcopy(model, dict(memo))
    except Exception:  # whatever an attribute's own copying raises
        memo |= {id(value): value for module in model.modules() for value in _uncopyable(module)}
        with _DetachedCopies(share):
            copied = copy.deepcopy(model, memo)
    return copied.cpu().eval()


def _detached(tensor: Tensor) -> Tensor:
    detached = tensor.detach()
    return nn.Parameter(detached, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else detached


def _uncopyable(module: nn.Module) -> list[object]:
    """Return the attributes of a module that copying fails on."""
    uncopyable = []
    for name, value in vars(module).items():
        if name in ("_parameters", "_buffers", "_modules"):
            continue
        try:
            with _DetachedCopies(True):
                copy.deepcopy(value)
        except Exception:  # whatever its own copying raises
            uncopyable.append(value)
    return uncopyable


class _DetachedCopies(TorchFunctionMode):
    """Deep copies of tensors without their history, which `copy.deepcopy` refuses; with ``share`` not their memory."""

    def __init__(self, share: bool) -> None:
        super().__init__()
        self.share = share

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__deepcopy__ and not isinstance(args[0], nn.Parameter):
            tensor, memo = args
            if id(tensor) not in memo:
                value = tensor.detach()
                memo[id(tensor)] = value if self.share and value.device.type == "cpu" else value.clone()
            return memo[id(tensor)]
        return func(*args, **(kwargs or {}))
