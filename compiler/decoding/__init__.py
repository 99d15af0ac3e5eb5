"""Incremental decoding derived from the one definition; `passes/derive_decoding.py` is the entry."""
