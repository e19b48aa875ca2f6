"""Predictors of networks from elsewhere, in torch."""

from __future__ import annotations

from ..evaluate import Predictor
from .network import Adapter, ExternalNetwork


def predictor_of(network: ExternalNetwork, adapter: Adapter | None = None, threshold: float | None = None) -> Predictor:
    """Return the predictor of a network, or of the same around another core.

    ``threshold`` takes the place of each head's own unless it is None.
    """
    return Predictor(network.deployed(adapter), network.inputs, network.heads, threshold, network.batch or 1)
