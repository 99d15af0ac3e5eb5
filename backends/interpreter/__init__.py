"""The meaning of the IR: it runs a program in NumPy, exactly as written. It shares no code with the other backends."""

from .decode import Cache, init_cache
from .execute import Trace, run
from .parameters import Place, initial_params, layer_slots, places
from .tensors import InterpreterError, OutOfRangeError

__all__ = ["Cache", "InterpreterError", "OutOfRangeError", "Place", "Trace", "init_cache", "initial_params", "layer_slots", "places", "run"]
