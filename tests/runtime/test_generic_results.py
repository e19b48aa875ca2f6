"""Results of tasks that the runtime has never heard of: a manifest describes them, no code of the task's is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgemtl_runtime.bundle import Head
from edgemtl_runtime.decode import DECODERS, decode
from edgemtl_runtime.draw import MAPS, draw, map_image, map_panel
from edgemtl_runtime.engine.agreement import AGREEMENTS, SAME
from edgemtl_runtime.errors import EngineError
from edgemtl_runtime.frame import Frame, FramePair
from edgemtl_runtime.generic_result import Points, ScalarMap, Scalars, Tensor, VectorMap
from edgemtl_runtime.letterbox import Letterbox
from edgemtl_runtime.messages.ros import header, of_head
from edgemtl_runtime.result import HeadResult, Result
from edgemtl_runtime.sink.web.panels import describe_views

pytestmark = pytest.mark.fault("L12")
HALF = Letterbox.plan((48, 80), (32, 40))
"""A camera of 80x48 at half its size, 8 rows of padding below."""
HEADS = {
    "temperature": Head("temperature", "temperature", "scalar_map", (), "°C", value_range=(0, 50)),
    "flow": Head("flow", "flow", "vector_map", ("right", "down"), "pixels a frame"),
    "feet": Head("feet", "feet", "points", ("left", "right"), threshold=0.5),
    "speed": Head("speed", "speed", "scalars", ("forward", "sideways"), "m/s"),
    "embedding": Head("embedding", "embedding", "tensor", ()),
}
NAN = np.nan
OUTPUTS: dict[str, Any] = {
    "temperature": np.where(np.arange(40) < 20, np.float32(10), np.float32(40)) * np.ones((32, 1), np.float32),
    "flow": np.full((32, 40, 2), (3, 4), np.float32),
    "feet": np.float32([[10, 20, 0.9, 1], [4, 2, 0.8, 0], [5, 30, 0.7, 0], [1, 1, 0.4, 0], [NAN, NAN, NAN, NAN]]),
    "speed": np.float32([1.5, NAN]),
    "embedding": np.arange(6, dtype=np.float16).reshape(2, 3),
}


def results() -> dict[str, HeadResult]:
    """Return the outputs decoded."""
    return decode(OUTPUTS, tuple(HEADS.values()), HALF)


def test_every_result_is_in_the_pixels_of_the_camera_and_in_its_units() -> None:
    decoded = results()
    temperature, flow, feet, speed, embedding = (decoded[name] for name in HEADS)
    assert isinstance(temperature, ScalarMap) and temperature.values.shape == (48, 80)
    assert temperature.values[0, 39] == 10 and temperature.values[47, 40] == 40 and temperature.units == "°C"
    assert isinstance(flow, VectorMap) and flow.vectors.shape == (48, 80, 2) and flow.names == ("right", "down")
    assert isinstance(feet, Points) and feet.xy.tolist() == [[20, 40], [8, 4]]  # none in the padding, none below 0.5
    assert feet.classes.tolist() == [1, 0]
    assert isinstance(speed, Scalars) and isinstance(embedding, Tensor) and embedding.values is OUTPUTS["embedding"]


def test_records_are_plain_numbers_with_their_units() -> None:
    records = {name: result.to_dict() for name, result in results().items()}
    assert records["temperature"] == {"percentiles": {"p5": 10.0, "median": 25.0, "p95": 40.0}, "units": "°C"}
    assert records["flow"] == {"mean_vector": {"right": 3.0, "down": 4.0}, "units": "pixels a frame"}
    assert records["feet"]["points"][0] == {"xy": [20.0, 40.0], "score": 0.9, "class": "right"}
    assert records["speed"] == {"scalars": {"forward": 1.5, "sideways": None}, "units": "m/s"}
    assert records["embedding"] == {"shape": [2, 3], "minimum": 0.0, "maximum": 5.0, "units": ""}


@pytest.mark.parametrize("values", [np.zeros((2, 2), np.float64), np.zeros((2, 2, 1), np.float32)])
def test_a_scalar_map_is_single_numbers(values: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(H, W\) float32"):
        ScalarMap(values)


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("flow", np.zeros((32, 40, 3), np.float32)),
        ("speed", np.zeros(3, np.float32)),
        ("feet", np.float32([[1, 1, 0.9, 2]])),
        ("temperature", np.zeros((32, 40), np.float64)),
        ("feet", np.zeros((2, 5), np.float32)),
    ],
)
def test_an_output_that_is_not_what_the_manifest_describes_is_rejected(name: str, output: np.ndarray) -> None:
    with pytest.raises(EngineError, match=f"{name}: .*export the bundle again"):
        decode({name: output}, (HEADS[name],), HALF)


@pytest.mark.parametrize("value_range", [(5, 5), (9, 1), (0, float("inf"))])
def test_the_range_of_a_colour_scale_is_one(value_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="value_range of head 'x'"):
        Head("x", "x", "scalar_map", (), value_range=value_range)


def test_maps_are_panels_and_the_rest_is_drawn_on_the_cameras() -> None:
    decoded = results()
    grey = np.full((48, 80), 90, np.uint8)
    pair = FramePair({"rgb": Frame(np.stack([grey] * 3, 2), 0, "rgb", 0), "ir": Frame(grey, 0, "ir", 0)})
    drawn = draw(pair, Result(decoded, "rgb", 0, 0, 0))
    assert drawn.shape[1] == 2 * 80 * 5  # two cameras and two maps, two in a row, 400 pixels wide each
    assert {name for name, result in decoded.items() if map_image(result) is not None} == {"temperature", "flow"}
    image = map_image(decoded["temperature"])
    assert image is not None and image[0, 0, 2] > image[0, 0, 0] and image[0, 79, 0] > image[0, 79, 2]  # blue, red
    views = describe_views(pair, Result(decoded, "rgb", 0, 0, 0))["heads"]
    assert isinstance(views, dict)
    kinds = {name: view["kind"] for name, view in views.items()}
    assert kinds == {n: "map" if isinstance(r, MAPS) else "overlay" for n, r in decoded.items()}


@pytest.mark.parametrize("values", [np.full((4, 4), NAN, np.float32), np.full((4, 4), 7, np.float32)])
def test_a_map_without_values_or_of_one_value_is_drawn(values: np.ndarray) -> None:
    from edgemtl_runtime.draw import Canvas

    panel = map_panel(ScalarMap(values, "µm²"), Canvas(320, 320, 80.0))
    assert panel is not None and panel.shape == (320, 320, 3)


def test_maps_are_images_of_ros_and_the_rest_is_json() -> None:
    messages = {name: of_head(result, header(1, "rgb")) for name, result in results().items()}
    assert messages["temperature"].encoding == "32FC1" and messages["flow"].encoding == "32FC2"
    assert messages["flow"].data.view(np.float32)[:2].tolist() == [3, 4]
    assert '"forward":1.5' in messages["speed"].data and '"class":"right"' in messages["feet"].data


@pytest.mark.parametrize("name", HEADS)
def test_outputs_agree_with_themselves_and_not_with_others(name: str) -> None:
    compare, output = AGREEMENTS[HEADS[name].decoder], OUTPUTS[name][None]
    if name == "feet":
        output = output[:, :4]
    same, total = compare(output, output, SAME)
    assert same == total > 0
    other = output + np.asarray(8, output.dtype)
    assert compare(output, other, SAME)[0] < total


def test_every_decoder_can_be_compared() -> None:
    assert DECODERS.keys() == AGREEMENTS.keys()
