"""Cameras out of line: the shift is found and taken back, and nothing is made up where there is none to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import edgemtl_models
from edgemtl_export import shrink
from edgemtl_models.registration import Registration, shifted_back

REGISTERED = {"kind": "aligned", "fuse_at": ["p3", "p4", "p5"], "registration_radius": 2}


def scene(seed: int, blur: int) -> Tensor:
    """Return features that are alike over ``blur`` cells, (1, 6, 40, 48)."""
    noise = torch.randn(1, 6, 40 + blur - 1, 48 + blur - 1, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(noise, blur, 1)


def seen(of: Tensor, across: float, down: float) -> Tensor:
    """Return the part that a camera sees which looks that many cells off."""
    moved = shifted_back(of, torch.tensor([[float(across), float(down)]]))
    return moved[:, :, 4:-4, 4:-4]


@pytest.mark.parametrize("down", [-2, -1, 0, 2])
@pytest.mark.parametrize("across", [-2, 0, 1, 2])
def test_whole_cells_are_found_and_taken_back(across: int, down: int) -> None:
    first, other = seen(scene(0, 3), 0, 0), seen(scene(0, 3), -across, -down)
    registration = Registration().requires_grad_(False)
    registration.sharpness.fill_(7)
    shift = registration(first, 3 * other + 5)  # a camera with another gain and offset
    torch.testing.assert_close(shift, torch.tensor([[float(across), float(down)]]), rtol=0, atol=1e-3)
    back = shifted_back(other, shift)
    torch.testing.assert_close(back[:, :, 2:-2, 2:-2], first[:, :, 2:-2, 2:-2], rtol=0, atol=0.02)


def test_parts_of_a_cell_lie_between() -> None:
    registration = Registration().requires_grad_(False)
    found = []
    for across in np.arange(-1.5, 1.51, 0.25):
        pairs = [(seen(scene(s, 4), 0, 0), seen(scene(s, 4), -across, 0.0)) for s in range(8)]
        shift = torch.cat([registration(*pair) for pair in pairs]).mean(0)
        assert abs(float(shift[0]) - across) < 0.3 and abs(float(shift[1])) < 0.1
        found.append(float(shift[0]))
    assert found == sorted(found)


def test_nothing_in_common_is_no_shift() -> None:
    registration = Registration().requires_grad_(False)
    shifts = torch.cat([registration(seen(scene(s, 1), 0, 0), seen(scene(s + 99, 1), 0, 0)) for s in range(8)])
    assert float(shifts.abs().max()) < 0.9
    edges = shifted_back(torch.ones(1, 2, 8, 8), torch.tensor([[1.5, -9.0]]))
    torch.testing.assert_close(edges, torch.ones(1, 2, 8, 8))


def test_beside_a_blank_camera_nothing_moves() -> None:
    torch.manual_seed(0)
    network = edgemtl_models.build("rgbir-n", {"boxes": 3}, (128, 160), fusion=REGISTERED, pretrained=False).eval()
    wide = F.avg_pool2d(torch.randn(1, 3, 176, 208), 7, 1, 3)[:, :, :160, :192]
    rgb, ir = wide[:, :, 16:144, 16:176], wide[:, :1]
    trunk = network.trunk
    with torch.no_grad():
        for blank in ("rgb", "ir"):
            images = {"rgb": rgb, "ir": ir[:, :, 16:144, 24:184]} | {
                blank: torch.zeros(1, 3 if blank == "rgb" else 1, 128, 160)
            }
            p2, p3 = trunk.streams["ir"].fine(images["ir"])
            dark = torch.tensor([blank == "rgb", blank == "ir"]).view(1, 2, 1, 1) * -1e4
            first = trunk.streams["rgb"].fine(images["rgb"])
            registered, _ = trunk._registered(first, (p2, p3), dark)
            for kept, own in zip(registered, (p2, p3), strict=True):
                torch.testing.assert_close(kept, own)


def test_it_is_in_the_shrunk_network_exactly() -> None:
    torch.manual_seed(0)
    network = edgemtl_models.build("rgbir-mobilenetv2", {"boxes": 3}, (64, 96), fusion=REGISTERED, pretrained=False)
    for path in network.trunk.alignable():
        network.trunk.share(path)
    with torch.no_grad():
        network.trunk.registration.sharpness += 1
        for name, p in network.trunk.named_parameters():
            if p.shape and p.shape[0] > 8 and (p.ndim == 4 or name.endswith(("weight", "bias"))):
                p[::3] = 0
    images = {"rgb": torch.rand(1, 3, 64, 96), "ir": torch.rand(1, 1, 64, 96)}
    shrunk = shrink(network.eval(), (), images)  # which proves that the answers are the same
    assert shrunk.report.parameters_after < 0.7 * shrunk.report.parameters_before


def test_a_picture_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="64x64 is too small to register over 3 cells: 96 at least"):
        edgemtl_models.build(
            "rgbir-n", {"boxes": 3}, (64, 64), fusion=REGISTERED | {"registration_radius": 3}, pretrained=False
        )
