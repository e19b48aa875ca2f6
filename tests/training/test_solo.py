"""Aligned streams that learn by themselves too: what the heads read, what counts, and what a blank camera leaves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import edgemtl_models
from edgemtl.config_file import load
from edgemtl.data.targets import ABSENT, Batch, pictures, repeated
from edgemtl.errors import ConfigError
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS
from edgemtl.train import begin
from edgemtl.trainer import Loop
from edgemtl_models.aligned import AlignedTrunk, blank_logits

FUSION = {"kind": "aligned", "fuse_at": ["p3", "p4", "p5"]}


def loop_of(*words: str) -> tuple[Loop, Batch]:
    usual = (
        "input_size=[32,64]",
        "batch_size=4",
        "precision=fp32",
        "steps=12",
        "warmup_steps=0",
        "num_threads=1",
        "augment.mosaic=0",
    )
    config = load(None, [*usual, "unimodal_aux_loss=true", *words])
    loop, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    return loop, batches[0]


def images_of(network: edgemtl_models.MultiTask) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(2, spec.channels, 64, 96) for name, spec in network.inputs.items()}


@torch.no_grad()
def test_with_a_blank_camera_the_heads_read_what_they_learn_on_the_other() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION).eval()
    trunk = network.trunk
    assert isinstance(trunk, AlignedTrunk)
    for gate in trunk.gates.values():
        torch.nn.init.normal_(gate.weigh.weight)
    images = images_of(network)
    assert not blank_logits(images, ["rgb", "ir"]).any()
    for number, name in enumerate(images):
        other = 1 - number
        dark = images | {name: torch.full_like(images[name], 0.3)}
        for fused, parts in zip(trunk(dark), trunk.unimodal_features(dark), strict=True):
            whole, *own = parts.chunk(3)
            assert torch.equal(fused, whole) and torch.equal(fused, own[other])
            assert not torch.equal(own[0], own[1])
        for fused, parts in zip(trunk(images), trunk.unimodal_features(images), strict=True):
            assert torch.equal(fused, parts[:2]) and not torch.equal(fused, parts[2:4])
    all_dark = {name: torch.zeros_like(image) for name, image in images.items()}
    assert all(bool(feature.isfinite().all()) for feature in trunk(all_dark))


@torch.no_grad()
def test_one_grey_level_in_one_pixel_is_a_picture() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION)
    spec = network.inputs["rgb"]
    flat = torch.full((1, 3, 64, 96), 0.4)
    one = flat.clone()
    one[0, 2, 40, 50] += 1 / 255 / max(spec.std)
    assert blank_logits({"rgb": flat}, ["rgb"]).item() < -1000 and blank_logits({"rgb": one}, ["rgb"]).item() == 0


@torch.no_grad()
def test_for_a_camera_that_shows_something_else_the_fused_features_stand() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION).eval()
    images = images_of(network)
    for parts in network.trunk.unimodal_features(images, torch.tensor([-1, 1])):
        fused, rgb, ir = parts.chunk(3)
        assert torch.equal(ir[1], fused[1]) and not torch.equal(ir[0], fused[0]) and not torch.equal(rgb[1], fused[1])


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_that_of_as_many_pictures_more(task: str) -> None:
    words = ["fusion.fuse_at=[p2,p3,p4,p5]"] if task != "boxes" else []
    loop, batch = loop_of("fusion.kind=aligned", f"tasks=[{task}]", *words)
    network, lesson = loop.network, loop.method.lesson
    trunk = network.trunk
    read: list[Tensor] = trunk.unimodal_features({name: batch[name] for name in ("rgb", "ir")}, batch.get(ABSENT))  # type: ignore[union-attr,operator]
    labels = {key: value for key, value in batch.items() if key not in ("rgb", "ir")}
    thrice = repeated(labels, 3)
    output = network.read(task, read)  # type: ignore[operator]
    expected = loop.tasks[task].loss(output, thrice)
    found = lesson.losses(batch)[0][task]
    assert expected is not None
    torch.testing.assert_close(found, expected.mean(), rtol=1e-4, atol=1e-5)
    for k in range(3):  # and each third of the labels is the batch's
        part = pictures(thrice, 4 * k, 4 * (k + 1))
        assert part.keys() == labels.keys() and all(torch.equal(part[key], labels[key]) for key in labels)


@pytest.mark.parametrize("method", ["joint", "mtml"])
def test_both_streams_and_the_gates_learn(method: str) -> None:
    loop, batch = loop_of(
        "fusion.kind=aligned", "tasks=[boxes,semantic]", f"method={method}", "task_weighting=uncertainty"
    )
    before = {name: p.detach().clone() for name, p in loop.network.named_parameters()}
    for _ in range(2):
        loop.learn(dict(batch))
    trunk = {name: p for name, p in loop.network.named_parameters() if name.startswith("trunk.")}
    still = [name for name, p in trunk.items() if torch.equal(p, before[name])]
    assert not still


def test_batches_tell_which_camera_is_absent() -> None:
    _, batch = loop_of(
        "fusion.kind=aligned", "tasks=[boxes]", "augment.modality_dropout=1", "augment.modality_dropout_fill=[blank]"
    )
    dark = blank_logits({name: batch[name] for name in ("rgb", "ir")}, ["rgb", "ir"]).view(4, 2) < 0
    assert dark.int().argmax(1).equal(batch[ABSENT]) and dark.sum(1).eq(1).all()
    _, whole = loop_of("fusion.kind=aligned", "tasks=[boxes]")
    assert ABSENT not in whole


def test_streams_that_meet_earlier_cannot_learn_alone() -> None:
    with pytest.raises(ConfigError, match="solo is of two full streams"):
        loop_of("tasks=[boxes]")
