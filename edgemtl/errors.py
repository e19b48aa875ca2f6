"""Errors of data, configuration and runs."""

from edgemtl_runtime.errors import EdgemtlError, nearest_hint

__all__ = ["ConfigError", "DataError", "EdgemtlError", "nearest_hint"]


class DataError(EdgemtlError):
    """Data that cannot be used as they are."""


class ConfigError(EdgemtlError):
    """A configuration that cannot be read or does not hold together."""
