"""The state of a run as Prometheus metrics (text exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ...errors import EdgemtlError, missing

KIND = "text/plain; version=0.0.4; charset=utf-8"
"""Media type of the exposition."""
QUANTILES = {"p50": "0.5", "p90": "0.9", "p99": "0.99", "max": "1"}
"""Prometheus's names of what `Stats.to_dict` tells."""


class Collector:
    """Gives one status as metric families; times in seconds, as Prometheus wants them."""

    def __init__(self, status: dict[str, Any]) -> None:
        self.status = status

    def collect(self) -> Iterator[Any]:
        """Yield the families: counters since the start of the run, gauges of now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        stats, cameras = self.status["stats"], self.status["cameras"]
        yield _family(CounterMetricFamily, "frames", "Frames captured.", ("camera",), stats["frames"])
        pairs = CounterMetricFamily("edgemtl_pairs", "Results given.")
        pairs.add_metric([], stats["pairs"])
        yield pairs
        uncertain = CounterMetricFamily("edgemtl_pairs_uncertain", "Results of pairs that may be of two moments.")
        uncertain.add_metric([], stats["uncertain"])
        yield uncertain
        yield _family(CounterMetricFamily, "drops", "Frames, pairs and results lost.", ("cause",), stats["drops"])
        latency = {
            (stage, QUANTILES[key]): value / 1e3
            for stage, values in stats["latency_ms"].items()
            for key, value in values.items()
        }
        yield _family(GaugeMetricFamily, "latency_seconds", "Time in a stage.", ("stage", "quantile"), latency)
        skew = {QUANTILES[key]: value / 1e3 for key, value in stats["skew_ms"].items()}
        yield _family(GaugeMetricFamily, "skew_seconds", "Time between a pair's frames.", ("quantile",), skew)
        up = {name: float(camera["state"] == "live") for name, camera in cameras.items()}
        yield _family(GaugeMetricFamily, "camera_up", "1 while new pictures come.", ("camera",), up)
        unsure = {name: camera.get("stamp_uncertainty_ms", 0.0) / 1e3 for name, camera in cameras.items()}
        text = "How far stamps may be off."
        yield _family(GaugeMetricFamily, "camera_stamp_uncertainty_seconds", text, ("camera",), unsure)
        again = {name: camera.get("reconnects", 0) for name, camera in cameras.items()}
        yield _family(CounterMetricFamily, "camera_reconnects", "Times a camera came back.", ("camera",), again)
        age_ms = self.status["last_result_age_ms"]
        if age_ms is not None:
            age = GaugeMetricFamily("edgemtl_last_result_age_seconds", "Time since the last result.")
            age.add_metric([], age_ms / 1e3)
            yield age


def exposition(status: dict[str, Any]) -> bytes:
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


def _family(kind: Any, name: str, text: str, labels: tuple[str, ...], values: dict[Any, float]) -> Any:
    family = kind(f"edgemtl_{name}", text, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key) if isinstance(key, tuple) else [key], value)
    return family
