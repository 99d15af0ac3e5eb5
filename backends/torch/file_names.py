"""What stands at the top of generated files besides what the spec names, and what their bodies read."""

from __future__ import annotations

import builtins

IMPORTED = (
    "annotations", "json", "math", "operator", "re", "Callable", "Collection", "Iterator", "Sequence", "dataclass", "field", "fields",
    "is_dataclass", "AbstractContextManager", "nullcontext", "fnmatch", "partial", "accumulate", "checkpoint", "create_selective_checkpoint_contexts", "Path", "NamedTuple", "torch", "F", "Tensor", "nn",
    "BlockMask", "create_block_mask", "flex_attention",
)  # fmt: skip
MODEL = ("Config", "Model", "Output", "init_weights", "check_choice", "choose")
COMPUTING = (
    "float32", "without_autocast", "linear_recurrence", "grouped_attention", "shared_attention", "window_attention", "centred_attention", "window_blocks", "cut_by_blocks", "blocks_of_bias", "join_blocks",
    "GroupedLinear", "FusedLinear", "FusedGroupedLinear", "grouped_mm", "matmul_by_expert", "weight_gradient", "backward",
    "route", "pairwise", "stacked", "member", "feature_state_space", "kept_since", "kept_until_end", "recurrence_by_parts", "RecurrenceBySteps", "write_steps",
    "states_by_parts", "softmax_with_sink", "attention_with_sink",
    "state_space", "outer_sums", "by_rows", "computed_once", "cross_entropy", "LinearCrossEntropy", "linear_cross_entropy", "BiasedCrossEntropy", "biased_cross_entropy",
    "near_and_chosen_attention", "attention_of_chosen", "runs_flex", "flex", "LinearStatistics", "linear_statistics", "chunks", "capped",
    "Streams", "ReversedLayer", "random_states", "set_random_states", "reversed_layer",
)  # fmt: skip
KEEPING = ("Cache", "Slots", "Rows", "OptionalRows", "Ring", "ring_slots", "at_slots", "follow", "tensors")
LOADING = (
    "Joined", "published_names", "CHECKPOINT", "COPIES", "IGNORED", "load_weights", "spelling", "same_order", "misfit", "fault_of",
    "read_tensors", "weight_files", "fused_tensors", "taken_apart", "put_together",
)  # fmt: skip

ARGUMENTS = ("self", "config", "cache", "state", "return_loss", "logits_to_keep", "expert")

AMBIGUOUS = ("I", "O", "l")  # not to be told from 1 and 0

FILE_NAMES = frozenset((*dir(builtins), *AMBIGUOUS, *IMPORTED, *MODEL, *COMPUTING, *KEEPING, *LOADING, *ARGUMENTS))
"""No class and no function of a spec is called so."""

RESERVED = frozenset(
    (
        "range", "enumerate", "reversed", "max", "min", "abs", "int", "torch", "nn", "F", "math", "json", "Path", "Tensor", "Config", "Model", "self", "config",
        "ring_slots", "follow", *COMPUTING,
    )
)  # fmt: skip
"""What bodies read: no variable is called so."""
