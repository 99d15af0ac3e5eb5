"""The meaning of the IR: it runs a program in NumPy, exactly as written. It shares no code with the other backends."""

from .execute import Trace, run
from .parameters import Place, initial_params, layer_slots, places
from .tensors import InterpreterError

__all__ = ["InterpreterError", "Place", "Trace", "initial_params", "layer_slots", "places", "run"]
