"""The state of a run as Prometheus metrics (text exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ...errors import EdgemtlError, missing

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of the exposition."""
QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "max": "1"}
"""Prometheus's labels for the quantiles of `Stats.to_dict`."""


class Collector:
    """Prometheus collector of one status; times in seconds."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        self.status = status

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the families: counters since the start of the run, gauges of now."""
        stats, cameras = self.status["stats"], self.status["cameras"]
        yield _counter("frames", "Frames captured.", ("camera",), stats["frames"].items())
        yield _counter("pairs", "Results given.", (), {(): stats["pairs"]}.items())
        yield _counter(
            "pairs_uncertain", "Results of pairs whose frames may differ in time.", (), {(): stats["uncertain"]}.items()
        )
        yield _counter("drops", "Frames, pairs and results lost.", ("cause",), stats["drops"].items())
        latency = {
            (stage, QUANTILES[key]): value / 1e3
            for stage, values in stats["latency_ms"].items()
            for key, value in values.items()
        }
        yield _gauge("latency_seconds", "Time in a stage.", ("stage", "quantile"), latency.items())
        skew = {QUANTILES[key]: value / 1e3 for key, value in stats["skew_ms"].items()}
        yield _gauge("skew_seconds", "Time between a pair's frames.", ("quantile",), skew.items())
        up = {name: float(camera["state"] == "live") for name, camera in cameras.items()}
        yield _gauge("camera_up", "1 while new images come.", ("camera",), up.items())
        uncertainty = {name: camera.get("stamp_uncertainty_ms", 0.0) / 1e3 for name, camera in cameras.items()}
        yield _gauge("camera_stamp_uncertainty_seconds", "Largest error of stamps.", ("camera",), uncertainty.items())
        reconnects = {name: camera.get("reconnects", 0) for name, camera in cameras.items()}
        yield _counter("camera_reconnects", "Times a camera came back.", ("camera",), reconnects.items())
        age_ms = self.status["last_result_age_ms"]
        if age_ms is not None:
            yield _gauge("last_result_age_seconds", "Time since the last result.", (), {(): age_ms / 1e3}.items())
        yield from self._drift()

    def _drift(self) -> Iterator[GaugeMetricFamily]:
        """Yield how far the data are from those of the export; a status of an earlier kind has none of it."""
        if bundle := self.status.get("bundle"):
            yield _gauge("bundle_info", "1 for the bundle in use.", ("bundle",), {bundle: 1.0}.items())
        values = self.status.get("drift", {})
        for key, text in (
            ("drift", "Drift of a quantity, in standard deviations of the reference."),
            ("value", "Mean of a quantity over the latest pairs."),
            ("reference", "Mean of a quantity over the images of the export."),
        ):
            name = "drift" if key == "drift" else f"drift_{key}"
            yield _gauge(name, text, ("quantity",), {q: value[key] for q, value in values.items()}.items())
        missing = self.status.get("missing", {})
        yield _gauge("missing_share", "Share of the latest pairs without a camera.", ("camera",), missing.items())
        if (shift_px := self.status.get("misalignment_px")) is not None:
            yield _gauge("misalignment_pixels", "Shift between registered images.", (), {(): shift_px}.items())


def exposition(status: Mapping[str, Any]) -> bytes:
    """Return a status as Prometheus text; raises `EdgemtlError` where prometheus_client is missing."""
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as error:
        raise EdgemtlError(
            missing(error, "prometheus_client", "prometheus_client is missing: pip install 'edgemtl-runtime[metrics]'")
        ) from error
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector(status))
    return bytes(generate_latest(registry))


Samples = Iterable[tuple[str | tuple[str, ...], float]]
"""Pairs of a label's value, or a tuple with one of each label, and the sample's value."""


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> CounterMetricFamily:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(f"edgemtl_{name}", text, labels=labels)
    for key, value in samples:
        family.add_metric(_label_values(key), value)
    return family


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"edgemtl_{name}", text, labels=labels)
    for key, value in samples:
        family.add_metric(_label_values(key), value)
    return family


def _label_values(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return key if isinstance(key, tuple) else (key,)
