"""Distillation: a frozen network, such as the dense one, teaches its smaller self, with labels or without.

Outputs are compared by their kind (`KINDS`), each on a scale of its own, so that heads of any units can be summed:

- ``logits``: the divergence KL(teacher ‖ student) of the classes along dimension 1 (Hinton et al. 2015, arXiv
  1503.02531);
- ``scores``: the cross-entropy of independent probabilities less the teacher's entropy, summed and divided by the sum
  of the teacher's probabilities: an object counts, not the thousand places where there is none;
- ``boxes``: the absolute difference at every place, weighted by the best of the teacher's scores there;
- ``values``: the absolute difference, in units of the teacher's mean deviation.

Inner features are compared by the correlation of each channel over the positions of a batch (PKD, Cao et al. 2022,
arXiv 2207.02039), so another scale or offset costs nothing.

Where student and teacher are equal all of these are zero, and so is their gradient: an importance by first order knows
nothing there. With a ``sharpness`` above 1 the teacher's classes and scores are more certain than the student's, and
pull as labels would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from .tracing import evaluation_copy

Kind = Literal["logits", "scores", "boxes", "values", "none"]
TINY = 1e-6


class Teacher:
    """The loss of a student's answers against those of a frozen copy of ``teacher``::

        teacher = Teacher(dense, model)
        for images in batches:
            loss = teacher.loss(model(images), images)  # + the loss of labels, where there are any

    Both must take the same inputs and answer in the same form.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        kinds: Mapping[str, Kind] | None = None,
        features: Sequence[str] = (),
        feature_weight: float = 1.0,
        sharpness: float = 1.0,
    ) -> None:
        """``kinds`` are of outputs by dotted path or pattern (``"semantic"``, ``"*.scores"``); others are ``values``.

        A ``boxes`` output is weighted by the ``scores`` next to it, at the same places along the last dimension.
        ``features`` are modules of both by name; those whose outputs differ in shape do not count. Raises ValueError
        for a module that is not there.
        """
        self.kinds, self.feature_weight, self.sharpness = dict(kinds or {}), feature_weight, sharpness
        device = next((p.device for p in student.parameters()), torch.device("cpu"))
        self.teacher = evaluation_copy(teacher, share=False).to(device).requires_grad_(False)
        self.student = student
        self.generator = torch.Generator().manual_seed(0)
        """Of what `likelihood` draws."""
        self.captured: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        """The features of the last pass of the teacher, and of the student."""
        self.hooks: list[RemovableHandle] = []
        for network, kept in zip((self.teacher, student), self.captured, strict=True):
            modules = dict(network.named_modules())
            for name in features:
                if name not in modules:
                    raise ValueError(f"features: {type(network).__name__} has no module '{name}'")
                self.hooks.append(modules[name].register_forward_hook(_capture(kept, name)))

    def loss(self, outputs: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss (scalar) of the student's ``outputs`` for inputs, which the teacher is given here."""
        self._answer_as_the_student()
        with torch.no_grad():
            targets = self.teacher(*args, **kwargs)
        given, wanted = named_outputs(outputs), named_outputs(targets)
        if not given.keys() <= wanted.keys():
            raise ValueError(f"the student gives {', '.join(given)}, the teacher {', '.join(wanted)}")
        terms = [self._term(name, given, wanted) for name in given]
        present = [term for term in terms if term is not None]
        total = torch.stack(present).sum() if present else torch.zeros(())
        of_teacher, of_student = self.captured
        alike = [
            1 - correlation(of_student[n], f).mean() for n, f in of_teacher.items() if of_student[n].shape == f.shape
        ]
        return total + self.feature_weight * torch.stack(alike).mean() if alike else total

    def likelihood(self, outputs: Any) -> Tensor:
        """Return the `likelihood` (scalar) of the student's ``outputs``, by their kinds."""
        return likelihood(outputs, self.kinds, self.generator)

    def to(self, device: torch.device) -> None:
        """Move the teacher to the device of the student, where that has moved."""
        self.teacher.to(device)

    def close(self) -> None:
        """Remove the hooks that capture features."""
        for hook in self.hooks:
            hook.remove()

    def _answer_as_the_student(self) -> None:
        """Let modules that answer otherwise in training do as the student's do, but not those that are random then."""
        for module in self.teacher.modules():
            module.training = self.student.training and not isinstance(module, _BatchNorm | _DropoutNd)

    def _term(self, name: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Tensor | None:
        kind = _kind(self.kinds, name, given[name])
        if kind == "none":
            return None
        student, teacher = given[name].float(), wanted[name].float()
        if kind == "boxes":
            return boxes(student, teacher, wanted[_scores_of(name)].float())
        return values(student, teacher) if kind == "values" else SHARPENED[kind](student, teacher * self.sharpness)


def likelihood(outputs: Any, kinds: Mapping[str, Kind], generator: torch.Generator) -> Tensor:
    """Return the log-likelihood (scalar) of answers that are drawn from a network's own ``outputs``, by their kinds.

    The mean square of its gradient is the Fisher information: what the loss against a teacher would rise by, to second
    order, where student and teacher are equal. For `Sparsifier.observe`. The ``generator`` is one of the CPU.
    """
    given = named_outputs(outputs)
    terms = [_drawn(_kind(kinds, name, output), name, given, generator) for name, output in given.items()]
    present = [term for term in terms if term is not None]
    return torch.stack(present).sum() if present else torch.zeros(())


def _kind(kinds: Mapping[str, Kind], name: str, output: Tensor) -> Kind:
    if not output.is_floating_point():
        return "none"
    return next((kind for pattern, kind in kinds.items() if fnmatchcase(name, pattern)), "values")


def _drawn(kind: Kind, name: str, given: Mapping[str, Tensor], generator: torch.Generator) -> Tensor | None:
    """Return the likelihood of one output, in the units of its loss."""
    output: Tensor = given[name].float()
    if kind == "none":
        return None
    if kind == "logits":
        p = output.detach().nan_to_num().movedim(1, -1).flatten(0, -2).softmax(-1)
        classes = p.cpu().multinomial(1, generator=generator).to(p.device)
        likelihoods: Tensor = output.movedim(1, -1).flatten(0, -2).log_softmax(-1).gather(1, classes)
        return likelihoods.sum() / math.sqrt(len(classes))
    if kind == "scores":
        p = output.detach().nan_to_num().sigmoid()
        drawn = torch.rand(p.shape, generator=generator).to(p) < p
        weight = (drawn.to(p) - p) / p.sum().clamp(min=1).sqrt()
        return (weight * output).sum()
    weight = torch.ones_like(output)
    if kind == "boxes":
        weight = given[_scores_of(name)].detach().float().sigmoid().amax(1, keepdim=True).expand_as(output)
    share = weight / weight.sum().clamp(min=TINY)
    noise = torch.randn(output.shape, generator=generator).to(output)
    return (noise * share.sqrt() * output).sum() / _spread(output.detach())


def _scores_of(boxes: str) -> str:
    """Return the path of the scores next to boxes."""
    return f"{boxes.rpartition('.')[0]}.scores".lstrip(".")


def named_outputs(tree: Any) -> dict[str, Tensor]:
    """Return the tensors of a nest of outputs by their dotted paths."""
    leaves, _ = pytree.tree_flatten_with_path(tree)
    named = {}
    for path, leaf in leaves:
        if isinstance(leaf, Tensor):
            named[".".join(str(getattr(key, "key", getattr(key, "idx", key))) for key in path)] = leaf
    return named


def logits(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of classes along dimension 1, mean over the rest."""
    target = teacher.log_softmax(1)
    return (target.exp() * (target - student.log_softmax(1))).sum(1).mean()


def scores(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of independent probabilities, by the sum of the teacher's."""
    target = teacher.sigmoid()
    cross = functional.binary_cross_entropy_with_logits(student, target, reduction="sum")
    entropy = functional.binary_cross_entropy_with_logits(teacher, target, reduction="sum")
    return (cross - entropy) / target.sum().clamp(min=1)


def boxes(student: Tensor, teacher: Tensor, teacher_scores: Tensor) -> Tensor:
    """Return the difference of box numbers, (B, N, A), weighted by the best score of each place, (B, classes, A)."""
    weight = teacher_scores.sigmoid().amax(1, keepdim=True)
    difference = (student - teacher).abs().mean(1, keepdim=True)
    return (weight * difference).sum() / weight.sum().clamp(min=1) / _spread(teacher)


def values(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean absolute difference in units of the teacher's mean deviation."""
    return (student - teacher).abs().mean() / _spread(teacher)


SHARPENED: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"logits": logits, "scores": scores}


def _spread(teacher: Tensor) -> Tensor:
    spread: Tensor = (teacher - teacher.mean()).abs().mean().clamp(min=TINY)
    return spread


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return the correlation of each channel, (C,), over the positions of two (B, C, ...).

    It is 0, with no gradient, where a channel is constant: one that is pruned has none to follow.
    """
    a, b = (f.float().transpose(0, 1).flatten(1) for f in (a, b))
    whole = a.norm(dim=1) * b.norm(dim=1)
    a, b = (f - f.mean(1, keepdim=True) for f in (a, b))
    norms = a.norm(dim=1) * b.norm(dim=1)
    r: Tensor = (a * b).sum(1) / norms.masked_fill(norms <= TINY * whole, math.inf)
    return r


def _capture(kept: dict[str, Tensor], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor):
            kept[name] = output

    return hook
