"""The auxiliary unimodal loss: what the heads read, the loss, and the features with a blank modality."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import edgemtl_models
from edgemtl.config_file import load
from edgemtl.data.batch import Batch
from edgemtl.errors import ConfigError
from edgemtl.synthetic.streets import Streets
from edgemtl.tasks import TASKS
from edgemtl.train import begin
from edgemtl.trainer import Trainer
from edgemtl_models.aligned import AlignedTrunk, blank_logits

FUSION = {"kind": "aligned", "fuse_at": ["p3", "p4", "p5"]}


def trainer_of(*words: str) -> tuple[Trainer, Batch]:
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
    trainer, batches = begin(config, {"train": Streets(8, config.input_size, 0, config.tasks)})
    return trainer, batches[0]


def images_of(network: edgemtl_models.MultiTask) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(2, spec.channels, 64, 96) for name, spec in network.inputs.items()}


@torch.no_grad()
def test_with_a_blank_modality_the_heads_read_the_features_of_the_other() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION).eval()
    trunk = network.trunk
    assert isinstance(trunk, AlignedTrunk)
    for gate in trunk.gates.values():
        torch.nn.init.normal_(gate.weigh.weight)
    images = images_of(network)
    assert not blank_logits(images, ["rgb", "ir"]).any()
    for index, name in enumerate(images):
        other = 1 - index
        dark = images | {name: torch.full_like(images[name], 0.3)}
        for fused, parts in zip(trunk(dark), trunk.unimodal_features(dark), strict=True):
            whole, *streams = parts.chunk(3)
            assert torch.equal(fused, whole) and torch.equal(fused, streams[other])
            assert not torch.equal(streams[0], streams[1])
        for fused, parts in zip(trunk(images), trunk.unimodal_features(images), strict=True):
            assert torch.equal(fused, parts[:2]) and not torch.equal(fused, parts[2:4])
    all_dark = {name: torch.zeros_like(image) for name, image in images.items()}
    assert all(bool(feature.isfinite().all()) for feature in trunk(all_dark))


@torch.no_grad()
def test_one_grey_level_in_one_pixel_is_an_image() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION)
    spec = network.inputs["rgb"]
    flat = torch.full((1, 3, 64, 96), 0.4)
    one = flat.clone()
    one[0, 2, 40, 50] += 1 / 255 / max(spec.std)
    assert blank_logits({"rgb": flat}, ["rgb"]).item() < -1000 and blank_logits({"rgb": one}, ["rgb"]).item() == 0


@torch.no_grad()
def test_a_missing_modality_has_the_fused_features() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (64, 96), fusion=FUSION).eval()
    images = images_of(network)
    for parts in network.trunk.unimodal_features(images, torch.tensor([-1, 1])):
        fused, rgb, ir = parts.chunk(3)
        assert torch.equal(ir[1], fused[1]) and not torch.equal(ir[0], fused[0]) and not torch.equal(rgb[1], fused[1])


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_is_that_of_as_many_images_more(task: str) -> None:
    words = ["fusion.fuse_at=[p2,p3,p4,p5]"] if task != "boxes" else []
    trainer, batch = trainer_of("fusion.kind=aligned", f"tasks=[{task}]", *words)
    network, loss = trainer.network, trainer.method.loss
    trunk = network.trunk
    read: list[Tensor] = trunk.unimodal_features(batch.images, batch.missing)
    thrice = batch.repeat_targets(3)
    output = network.read(task, read)  # type: ignore[operator]
    expected = trainer.tasks[task].loss(output, thrice)
    unimodal = loss(batch).losses[task]
    assert expected is not None
    torch.testing.assert_close(unimodal, expected.mean(), rtol=1e-4, atol=1e-5)
    for k in range(3):  # and each third of the labels is the batch's
        part = thrice.slice(4 * k, 4 * (k + 1))
        assert part.targets.keys() == batch.targets.keys() and part.source == batch.source
        for name, target in batch.targets.items():
            copies = part.targets[name].tensors()
            assert all(torch.equal(copies[key], tensor) for key, tensor in target.tensors().items())


@pytest.mark.parametrize("method", ["joint", "mtml"])
def test_both_streams_and_the_gates_are_trained(method: str) -> None:
    trainer, batch = trainer_of(
        "fusion.kind=aligned", "tasks=[boxes,semantic]", f"method={method}", "task_weighting=uncertainty"
    )
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    for _ in range(2):
        trainer.train_step(batch)
    trunk = {name: p for name, p in trainer.network.named_parameters() if name.startswith("trunk.")}
    still = [name for name, p in trunk.items() if torch.equal(p, before[name])]
    assert not still


def test_batches_have_the_index_of_the_missing_modality() -> None:
    _, batch = trainer_of(
        "fusion.kind=aligned", "tasks=[boxes]", "augment.modality_dropout=1", "augment.modality_dropout_fill=[blank]"
    )
    dark = blank_logits(batch.images, ["rgb", "ir"]).view(4, 2) < 0
    assert dark.int().argmax(1).equal(batch.missing) and dark.sum(1).eq(1).all()
    _, whole = trainer_of("fusion.kind=aligned", "tasks=[boxes]")
    assert whole.missing is None


@pytest.mark.parametrize("words", [("fusion.kind=early",), ("fusion.kind=mid",), ("modalities=[ir]",)])
def test_streams_that_are_fused_earlier_have_no_unimodal_loss(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="unimodal_aux_loss is of two full streams"):
        trainer_of("tasks=[boxes]", *words)


def test_of_concatenated_streams_a_modalitys_own_features_do_not_depend_on_the_other() -> None:
    network = edgemtl_models.build("rgbir-n", {"boxes": 3, "semantic": 2}, (64, 96)).train()
    images = images_of(network)
    before = {name: b.clone() for name, b in network.trunk.named_buffers() if not name.startswith("backbones.")}
    plain = network.trunk(images)
    once = {name: b.clone() for name, b in network.trunk.named_buffers() if name in before}
    for name, buffer in network.trunk.named_buffers():
        if name in before:
            buffer.copy_(before[name])
    features = network.trunk.stream_features(images)
    assert all(torch.equal(a, b) for a, b in zip(plain, features.fused, strict=True))
    for name, buffer in network.trunk.named_buffers():  # those of the fused features alone
        assert name not in before or name.endswith("num_batches_tracked") or torch.equal(buffer, once[name])
    other = network.trunk.stream_features(images | {"ir": torch.randn(2, 1, 64, 96)})
    for (rgb, ir), (same, changed) in zip(features.streams, other.streams, strict=True):
        assert torch.equal(rgb, same) and not torch.equal(ir, changed)
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))


def test_concatenated_streams_are_trained_alone_too() -> None:
    trainer, batch = trainer_of("tasks=[boxes,semantic]")
    trainer.train_step(batch)
    assert not any(spec.may_be_missing for spec in trainer.interface.inputs)  # a blank frame is no zero feature
    assert all(spec.may_be_missing for spec in trainer_of("fusion.kind=aligned")[0].interface.inputs)
