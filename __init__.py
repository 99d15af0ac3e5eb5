"""xfc compiles a short description of a transformer into a standalone PyTorch module and a NumPy reference."""

__version__ = "0.1.0"
