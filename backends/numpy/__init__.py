"""Programs as standalone NumPy files: plain functions and a dict of arrays."""

from .emit import emit

__all__ = ["emit"]
