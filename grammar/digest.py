"""Digests of what things depend on, none of which guards anything: `hashlib` would load OpenSSL first, which a short command notices."""

try:
    from _blake2 import blake2b as digest
except ImportError:
    from hashlib import blake2b as digest

__all__ = ["digest"]
