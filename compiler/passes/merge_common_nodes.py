"""Compute once what is written twice in one body."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from ...grammar.frozen import field_names
from ..ir import (
    Attend,
    Call,
    Dropout,
    Fold,
    Module,
    Node,
    Op,
    Pairwise,
    Program,
    Region,
    Route,
    Scan,
    Value,
    replace_results,
    replace_values,
    rewrite,
)


def merge_common_nodes(program: Program) -> Program:
    """Replace a node by an earlier one of the same body with the same operation, operands and attributes.

    Requires: a verified program. Ensures: no two such nodes remain in a body (a region's body is one of its own). Leaves alone: calls
    of modules, attention (but not the bodies of its regions), dropout (two draws)."""
    outputs: dict[Value, Value] = {}

    def change(module: Module) -> Module:
        body, mapping = _merge(module.body)
        outputs.update(mapping)
        return replace_results(replace(module, body=body), mapping)

    root = rewrite(program.root, change)
    losses = tuple(replace(loss, value=outputs.get(loss.value, loss.value)) for loss in program.losses)
    return replace(program, root=root, losses=losses)


def structure(node: Op) -> Hashable:
    """What a node computes: its class, operands, attributes and types; equal for two nodes only if their results are equal."""
    attributes = tuple(getattr(node, name) for name in field_names(type(node)) if name not in ("outs", "span"))
    return type(node), attributes, tuple(v.type for v in node.outs)


def _merge(body: tuple[Node, ...]) -> tuple[tuple[Node, ...], dict[Value, Value]]:
    mapping: dict[Value, Value] = {}
    seen: dict[Hashable, Node] = {}
    kept: list[Node] = []
    for node in body:
        node = replace_values(node, mapping)
        if isinstance(node, Attend):
            node = replace(node, mask=_merge_region(node.mask), score=_merge_region(node.score), weights=_merge_region(node.weights))
        elif not isinstance(node, Call | Fold | Scan | Route | Pairwise | Dropout):
            first = seen.setdefault(structure(node), node)
            if first is not node:
                mapping.update(zip(node.outs, first.outs, strict=True))
                continue
        kept.append(node)
    return tuple(kept), mapping


def _merge_region(region: Region | None) -> Region | None:
    if region is None:
        return None
    body, mapping = _merge(region.body)
    return replace(region, body=body, result=mapping.get(region.result, region.result))
