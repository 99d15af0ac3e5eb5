"""Experts."""

from __future__ import annotations

from ...compiler import ir
from ..python.write_body import BodyWriter


def lower_route(w: BodyWriter, node: ir.Node) -> None:
    w.refuse("experts")


def lower_pairwise(w: BodyWriter, node: ir.Node) -> None:
    w.refuse("experts applied pairwise")
