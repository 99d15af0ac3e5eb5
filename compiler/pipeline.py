"""The passes between elaboration and the backends, in order. Each takes a verified program and gives one that means the same."""

from __future__ import annotations

from collections.abc import Callable

from .ir import Program
from .passes.hoist_invariants import hoist_invariants
from .passes.mark_computed_tables import mark_computed_tables
from .passes.merge_common_nodes import merge_common_nodes
from .passes.remove_dead_nodes import remove_dead_nodes
from .passes.remove_unread_results import remove_unread_results
from .passes.slice_first_rows import slice_first_rows

PASSES: tuple[Callable[[Program], Program], ...] = (
    slice_first_rows,  # rows 0, 1, ... are no lookup
    remove_unread_results,  # what a module gives and nobody reads is not given
    merge_common_nodes,  # what a body writes twice is computed once
    hoist_invariants,  # what is the same in every layer is computed before the layers
    merge_common_nodes,  # what several stacks had computed each is computed once
    mark_computed_tables,  # tables that no checkpoint holds are not saved
    remove_dead_nodes,  # what reaches no output and no loss goes, with the inputs that fed it
)


def run(program: Program) -> Program:
    for rewrite in PASSES:
        program = rewrite(program)
    return program
