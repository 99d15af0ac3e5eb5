"""The PyTorch backend."""

from .emit import emit

__all__ = ["emit"]
