"""Errors of data, configuration and runs."""

from edgemtl_runtime.errors import EdgemtlError, nearest_hint

__all__ = ["ConfigError", "DataError", "EdgemtlError", "nearest_hint"]


class DataError(EdgemtlError):
    """Data that cannot be used as they are."""


class ConfigError(EdgemtlError):
    """A configuration that cannot be read or does not hold together."""


def brief(error: BaseException) -> str:
    """Return an error as part of a line: its message, after its type where that is needed."""
    text = " ".join(str(error).split())[:300]
    named = not text or isinstance(error, LookupError | AttributeError)
    return f"{type(error).__name__} {text}".strip() if named else text
