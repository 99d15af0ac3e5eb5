"""What each node becomes in torch, in one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...compiler import ir
from ..python.shapes import lower_flatten, lower_rename, lower_slice, lower_squeeze, lower_transpose, lower_unflatten
from ..python.sinks import SinkSoftmax
from ..python.write_body import BodyWriter
from .attention import lower_attend
from .cache.nodes import lower_cached_along, lower_cached_concat, lower_cached_pad, lower_keep
from .calls import lower_call
from .chunk_losses import LinearCrossEntropy, lower_linear_cross_entropy
from .contractions import lower_einsum, lower_linear_recurrence
from .join_biases import MaskedBias, lower_masked_bias
from .loss_statistics import LinearStatistics, lower_linear_statistics
from .pointwise import (
    lower_cast,
    lower_cross_entropy,
    lower_dropout,
    lower_elementwise,
    lower_full,
    lower_index,
    lower_reduce,
    lower_roll,
    lower_stop_gradient,
    lower_top,
    lower_training,
)  # fmt: skip
from .routing import lower_pairwise, lower_route
from .shapes import (
    lower_child_param,
    lower_expand,
    lower_one_hot,
    lower_scatter_add,
    lower_split,
    lower_stack,
    lower_take,
    lower_unfold,
    lower_unstack,
)  # fmt: skip
from .sinks import lower_sink_softmax
from .stacks import lower_fold, lower_scan
from .state_space import StateSpace, lower_state_space
from .states_by_parts import StatesByParts, lower_states_by_parts

LOWERINGS: Mapping[type, Callable[[BodyWriter, ir.Node], None]] = {
    ir.ChildParam: lower_child_param,
    ir.Index: lower_index,
    ir.Full: lower_full,
    ir.Elementwise: lower_elementwise,
    ir.Cast: lower_cast,
    ir.Reduce: lower_reduce,
    ir.Along: lower_cached_along,
    ir.Roll: lower_roll,
    ir.Top: lower_top,
    ir.Einsum: lower_einsum,
    ir.Split: lower_split,
    ir.Unflatten: lower_unflatten,
    ir.Flatten: lower_flatten,
    ir.Rename: lower_rename,
    ir.Transpose: lower_transpose,
    ir.Expand: lower_expand,
    ir.Squeeze: lower_squeeze,
    ir.StackTensors: lower_stack,
    ir.Unstack: lower_unstack,
    ir.Concat: lower_cached_concat,
    ir.Pad: lower_cached_pad,
    ir.Slice: lower_slice,
    ir.Take: lower_take,
    ir.ScatterAdd: lower_scatter_add,
    ir.OneHot: lower_one_hot,
    ir.Unfold: lower_unfold,
    ir.LinearRecurrence: lower_linear_recurrence,
    ir.Attend: lower_attend,
    ir.Dropout: lower_dropout,
    ir.StopGradient: lower_stop_gradient,
    ir.CrossEntropy: lower_cross_entropy,
    LinearCrossEntropy: lower_linear_cross_entropy,
    LinearStatistics: lower_linear_statistics,
    StateSpace: lower_state_space,
    StatesByParts: lower_states_by_parts,
    MaskedBias: lower_masked_bias,
    SinkSoftmax: lower_sink_softmax,
    ir.Call: lower_call,
    ir.Fold: lower_fold,
    ir.Scan: lower_scan,
    ir.Keep: lower_keep,
    ir.Training: lower_training,
    ir.Route: lower_route,
    ir.Pairwise: lower_pairwise,
}
