"""A teacher: what is taught without labels is learned, each kind of output by its own measure."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from edgemtl_export.teacher import Kind, Teacher, boxes, correlation, likelihood, logits, named_outputs, scores, values

X = torch.rand(16, 3, 12, 12, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, Kind] = {"semantic": "logits", "*.scores": "scores", "*.boxes": "boxes", "*.feats.*": "none"}


class Net(nn.Module):
    """A trunk with heads of every kind; in training its boxes answer in parts, in evaluation in one tensor."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.SiLU(), nn.Dropout(0.2))
        self.semantic, self.depth = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 1, 1)
        self.places, self.classes = nn.Conv2d(16, 4, 1), nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> dict[str, object]:
        x = self.trunk(x)
        parts = {"boxes": self.places(x).flatten(2), "scores": self.classes(x).flatten(2), "feats": [x]}
        found = parts if self.training else torch.cat([parts["boxes"], parts["scores"].sigmoid()], 1)
        return {"semantic": self.semantic(x), "depth": 100 * self.depth(x), "found": found, "size": x.shape[-1]}


def test_the_loss_is_zero_of_an_equal_student_and_has_no_gradient_until_it_is_sharpened() -> None:
    dense = Net(0)
    dense.trunk[3] = nn.Identity()
    for module in dense.modules():
        module.training = not isinstance(module, nn.BatchNorm2d)
    for sharpness in (1.0, 2.0):
        student = copy.deepcopy(dense)
        loss = Teacher(dense, student, KINDS, sharpness=sharpness).loss(student(X), X)
        loss.backward()
        gradient = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
        assert (abs(float(loss)) < 1e-5) == (gradient < 1e-4) == (sharpness == 1)


def test_a_student_learns_all_kinds_without_labels_and_the_teacher_stays() -> None:
    dense, student = Net(0), Net(1)
    before = {name: tensor.clone() for name, tensor in dense.state_dict().items()}
    teacher = Teacher(dense, student.train(), KINDS, features=["trunk"])
    optimizer = torch.optim.Adam(student.parameters(), 3e-3)
    losses = []
    for _ in range(150):
        loss = teacher.loss(student(X), X)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.state_dict().items())
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.teacher.state_dict().items())
    hooks = len(student.trunk._forward_hooks)
    teacher.close()
    assert hooks == 1 and not student.trunk._forward_hooks


def test_kinds_have_no_units_and_count_objects() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 4, 50, generator=generator) for _ in range(2))
    assert float(values(1000 * a, 1000 * b)) == pytest.approx(float(values(a, b)), rel=1e-4)
    assert float(logits(a + 5, a)) == pytest.approx(0, abs=1e-6)
    assert float(scores(a, a)) == pytest.approx(0, abs=1e-5) and float(scores(b, a)) > 0
    empty = torch.full((2, 3, 50), -12.0)
    objects = empty.clone()
    objects[:, 0, :2] = 4.0
    crowd = torch.cat([objects, empty, empty, empty], 2)
    missed = [float(scores(torch.full_like(t, -12.0), t)) for t in (objects, crowd)]
    assert missed[1] == pytest.approx(missed[0], rel=0.01)  # places without an object dilute nothing
    far = b.clone()
    far[..., :2] = a[..., :2]
    assert float(boxes(far, a, objects)) < 0.02 * float(boxes(b, a, objects))  # it is right where the objects are
    assert correlation(3 * a + 1, a) == pytest.approx(torch.ones(4), abs=1e-4)


def test_outputs_are_named_by_their_paths_and_must_agree() -> None:
    tree = {"a": [torch.zeros(1), {"b": torch.zeros(2)}], "c": 3}
    assert {name: len(t) for name, t in named_outputs(tree).items()} == {"a.0": 1, "a.1.b": 2}
    student = nn.Sequential(nn.Conv2d(3, 2, 1))
    with pytest.raises(ValueError, match="the student gives a, the teacher"):
        Teacher(student, student).loss({"a": student(X)}, X)
    with pytest.raises(ValueError, match="Sequential has no module 'trunk'"):
        Teacher(student, student, features=["trunk"])


@pytest.mark.parametrize("kind", ["logits", "scores", "boxes", "values"])
def test_the_likelihoods_gradient_is_what_the_loss_rises_by_to_second_order(kind: Kind) -> None:
    torch.manual_seed(0)
    shape = (2, 3, 40) if kind != "boxes" else (2, 4, 40)
    dense = nn.Linear(5, 6)
    x, other = torch.rand(8, 5), torch.rand(shape)

    class Heads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(dense.weight.detach().clone())

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            answer = (x @ self.weight.T).sum(0) @ torch.rand(
                6, other.numel(), generator=torch.Generator().manual_seed(1)
            )
            scores = (x @ self.weight.T).sum(0) @ torch.rand(6, 240, generator=torch.Generator().manual_seed(2))
            return {"answer": answer.view(shape), "scores": scores.view(2, 3, 40) - 1}

    student = Heads()
    teacher = Teacher(student, student, {"answer": kind, "scores": "none" if kind != "boxes" else "scores"})
    direction = 1e-2 * torch.randn(6, 5)
    squares = []
    for _ in range(2000):
        (gradient,) = torch.autograd.grad(teacher.likelihood(student(x)), student.weight)
        squares.append(float((gradient * direction).sum()) ** 2)
    with torch.no_grad():
        student.weight.add_(direction)
        moved = student(x)
        before = teacher.teacher(x)
        student.weight.sub_(direction)
    if kind in ("logits", "scores"):
        measure = logits if kind == "logits" else scores
        wanted = 2 * float(measure(moved["answer"], before["answer"]))
    else:  # of these the loss has a kink: the square that it is compared by has the teacher's spread as its unit
        change = (moved["answer"] - before["answer"]).square()
        spread = (before["answer"] - before["answer"].mean()).abs().mean()
        weight = before["scores"].sigmoid().amax(1, keepdim=True).expand_as(change)
        weight = weight / weight.sum() if kind == "boxes" else torch.full_like(change, 1 / change.numel())
        wanted = float((weight * change).sum() / spread**2)
        if kind == "boxes":
            wanted += 2 * float(scores(moved["scores"], before["scores"]))
    given = torch.tensor(squares)
    assert abs(float(given.mean()) - wanted) < 4 * float(given.std()) / len(given) ** 0.5 + 0.05 * wanted


def test_a_channel_that_is_pruned_has_no_feature_to_follow() -> None:
    layer, images = nn.Conv2d(3, 4, 1), torch.rand(2, 3, 8, 8)
    wanted = layer(images).detach()
    with torch.no_grad():
        layer.weight[1], layer.bias[1] = 0.0, 0.0
        layer.weight[0] += 0.1
    (1 - correlation(layer(images), wanted)).mean().backward()
    assert float(layer.weight.grad[1].abs().max()) == 0 < float(layer.weight.grad[0].abs().max()) < 1


def test_a_constant_channel_has_no_gradient_however_large_it_is() -> None:
    wanted = torch.rand(2, 3, 8, 8)
    constant = torch.full((2, 3, 8, 8), 0.1, requires_grad=True)
    (1 - correlation(constant, wanted)).mean().backward()
    assert float(constant.grad.abs().max()) == 0


@pytest.mark.parametrize("kind", ["logits", "scores", "values"])
def test_the_likelihood_of_outputs_that_are_no_numbers_is_no_error(kind: Kind) -> None:
    outputs = {"a": torch.full((2, 3, 4), torch.nan, requires_grad=True)}
    generator = torch.Generator().manual_seed(0)
    assert likelihood(outputs, {"a": kind}, generator).shape == ()
    assert float(likelihood(outputs, {"a": "none"}, generator)) == 0
    assert likelihood({"a": torch.rand(3, requires_grad=True)}, {}, generator).requires_grad
