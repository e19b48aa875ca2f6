"""Exported programs (`.pt2`) from untrusted sources, loaded without running what they contain."""

from .archive import NoProgramError, UntrustedError
from .load import load_program

__all__ = ["NoProgramError", "UntrustedError", "load_program"]
