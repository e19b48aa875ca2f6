"""Geometry moves both views and the labels together; light changes each view by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgemtl.config import Augment, Config
from edgemtl.data.augment import Augmenter, Item, mosaic, to_item
from edgemtl.data.loader import Loader, collate
from edgemtl.data.sample import IGNORE, Sample
from edgemtl.data.streets import Streets
from edgemtl_runtime.bundle import Input

SIZE = (96, 128)
INPUTS = {
    "rgb": Input("rgb", *SIZE, 3, (0.0,) * 3, (1.0,) * 3, "rgb"),
    "ir": Input("ir", *SIZE, 1, (0.0,), (1.0,), "ir"),
}
STILL = Augment(mosaic=0, flip=False, translate=0, scale=0, brightness=0, contrast=0, saturation=0, hue=0)


def marked(x0: int = 40, y0: int = 30, x1: int = 72, y1: int = 62) -> Sample:
    """A white rectangle on black in both views, its box, and its class in the label map."""
    rgb, ir, semantic = np.zeros((*SIZE, 3), np.uint8), np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    for image in (rgb, ir):
        image[y0:y1, x0:x1] = 255
    semantic[y0:y1, x0:x1] = 1
    return Sample({"rgb": rgb, "ir": ir}, np.array([[x0, y0, x1, y1]], np.float32), np.zeros(1, np.int64), semantic)


def extent(mask: torch.Tensor) -> list[int]:
    ys, xs = torch.nonzero(mask, as_tuple=True)
    return [int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1]


@pytest.mark.parametrize("seed", range(12))
def test_everything_moves_together(seed: int) -> None:
    torch.manual_seed(seed)
    moving = Augmenter(Augment(brightness=0, contrast=0, saturation=0, hue=0, scale=0.4, translate=0.2), INPUTS)
    item = to_item(marked(), INPUTS)
    out = moving(dict(item), [to_item(marked(), INPUTS)] * 3 if seed % 2 else [])
    rgb, ir, labels = out["rgb"][0] > 190, out["ir"][0] > 190, out["semantic"] == 1
    assert torch.equal(rgb, ir)
    assert (rgb & labels).sum() >= 0.85 * (rgb | labels).sum()
    if not seed % 2 and len(out["boxes"]):
        assert np.allclose(extent(labels), out["boxes"][0].tolist(), atol=2.5)
    for x0, y0, x1, y1 in out["boxes"].tolist():
        assert 0 <= x0 < x1 <= SIZE[1] and 0 <= y0 < y1 <= SIZE[0]
        inside = labels[round(y0) : round(y1), round(x0) : round(x1)]
        assert inside.float().mean() > 0.8


def test_light_changes_each_view_by_itself() -> None:
    torch.manual_seed(1)
    item = to_item(Streets(1, SIZE, 3)[0], INPUTS)
    light = Augmenter(Augment(mosaic=0, flip=False, translate=0, scale=0), INPUTS)
    out = light(dict(item), [])
    assert torch.equal(out["boxes"], item["boxes"]) and torch.equal(out["semantic"], item["semantic"])
    ratios = [out[name].float().mean() / item[name].float().mean() for name in INPUTS]
    assert abs(ratios[0] - ratios[1]) > 1e-3


def test_nothing_moves_when_nothing_is_asked_for() -> None:
    item = to_item(marked(), INPUTS)
    out = Augmenter(STILL, INPUTS)(dict(item), [])
    assert all(torch.equal(out[key], item[key]) for key in item)


def test_a_box_that_is_almost_cut_off_is_dropped() -> None:
    torch.manual_seed(0)
    far = Augmenter(Augment(**{**{f: getattr(STILL, f) for f in STILL.__struct_fields__}, "translate": 0.9}), INPUTS)
    for _ in range(40):
        out = far(dict(to_item(marked(), INPUTS)), [])
        seen = int((out["semantic"] == 1).sum())
        assert len(out["boxes"]) == (seen >= 0.3 * 32 * 32) or abs(seen - 0.3 * 32 * 32) < 40


def test_a_mosaic_holds_four_pictures_and_their_boxes() -> None:
    items = [to_item(marked(x, 30, x + 20, 50), INPUTS) for x in (10, 30, 50, 70)]
    whole = mosaic(items, SIZE)
    assert whole["rgb"].shape == (3, 192, 256) and len(whole["boxes"]) == 4
    assert whole["boxes"].tolist()[3] == [70 + 128, 30 + 96, 90 + 128, 50 + 96]


def test_letterboxed_labels_have_ignored_padding() -> None:
    sample = marked()
    tall = {name: Input(name, 128, 128, spec.channels, spec.mean, spec.std, name) for name, spec in INPUTS.items()}
    item = to_item(sample, tall)
    assert (item["semantic"][96:] == IGNORE).all() and (item["rgb"][:, 96:] == 114).all()


def test_the_same_seed_gives_the_same_batches() -> None:
    config = Config(size=SIZE, batch=3)

    def batches() -> list[Item]:
        torch.manual_seed(5)
        return list(Loader(Streets(8, SIZE, 0), config, INPUTS, 4))

    for left, right in zip(batches(), batches(), strict=True):
        assert all(torch.equal(left[key], right[key]) for key in left)


def test_an_error_in_the_loader_reaches_the_training() -> None:
    class Broken(Streets):
        def __getitem__(self, index: int) -> Sample:
            raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        list(Loader(Broken(4, SIZE, 0), Config(size=SIZE, batch=2), INPUTS, 2))


def test_leaving_the_loader_early_ends_its_thread() -> None:
    loader = Loader(Streets(8, SIZE, 0), Config(size=SIZE, batch=2), INPUTS, 1000)
    for _ in loader:
        break
    loader.thread.join(timeout=5)
    assert not loader.thread.is_alive()


def test_targets_are_normalised_and_counted() -> None:
    batch = collate([to_item(marked(), INPUTS), to_item(Sample(marked().images, *_nothing()), INPUTS)], INPUTS)
    assert batch["bboxes"].tolist() == [[pytest.approx(v) for v in (56 / 128, 46 / 96, 32 / 128, 32 / 96)]]
    assert batch["batch_idx"].tolist() == [0.0] and batch["rgb"].shape == (2, 3, *SIZE)
    assert batch["rgb"].max() == 1 and (batch["semantic"][1] == IGNORE).all()


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
