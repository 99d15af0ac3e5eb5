"""What stands at the top of generated files besides what the spec names, and what their functions read."""

from __future__ import annotations

import builtins

from .helpers import HELPERS

READ = (
    "np", "math", "Path", "Array", "Params", "Config", "NamedTuple", "Output", "Cache", "load", "forward", "shapes", "init_state", "init_cache",
)  # fmt: skip
"""What forward and the functions under it may read."""

LOADING = (
    "annotations", "json", "operator", "re", "Sequence", "dataclass", "field", "fnmatch", "accumulate", "Joined", "published_names", "CHECKPOINT", "COPIES",
    "IGNORED", "spelling", "same_order", "misfit", "fault_of", "read_arrays", "weight_files", "read_file", "distinct", "as_array",
)  # fmt: skip

ARGUMENTS = ("params", "config", "state", "path", "cache", "return_loss", "expert", "i")
"""What functions call what they are given, and what they count with."""

FILE_NAMES = frozenset((*dir(builtins), *READ, *LOADING, *HELPERS, *ARGUMENTS))
"""No function of a spec is called so."""

RESERVED = frozenset((*dir(builtins), *READ, *HELPERS))
"""No variable is called so."""

NEEDED = frozenset(
    (
        *HELPERS, *READ, "params", "config", "range", "len", "enumerate", "reversed", "slice", "tuple", "list", "dict", "set", "sum", "max", "min",
        "int", "float", "bool", "str", "print",
    )
)  # fmt: skip
"""No input is called so: it keeps the spec's name, and functions need these."""
