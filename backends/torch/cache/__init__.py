"""Cached decoding in PyTorch: what a derived program remembers, as classes of tensors that are allocated once and written in place."""
