"""The emitted modules as functions from weights and inputs to outputs: PyTorch and NumPy alike. Nothing else here imports torch."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Array = NDArray[Any]
Arrays = Mapping[str, Array]
NO_KEYS: Mapping[str, str] = MappingProxyType({})


class ModuleError(Exception):
    """An emitted module does not fit what it was emitted from."""


@contextmanager
def loaded(source: str, name: str) -> Iterator[ModuleType]:
    """A module from its text, known to `inspect` and `torch.compile` by its file while it is in use."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.py"
        before = sys.modules.get(name)
        path.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            yield module
        finally:
            if before is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = before


def named(result: object, names: tuple[str, ...]) -> dict[str, Array]:
    """Outputs by name: of a named tuple, or of one array."""
    as_dict = getattr(result, "_asdict", None)
    fields = as_dict() if as_dict is not None else {names[0]: result}
    return {name: _array(value) for name, value in fields.items() if value is not None}


def _array(value: object) -> Array:
    detach = getattr(value, "detach", None)
    return np.asarray(value if detach is None else detach().numpy())


class TorchModule:
    """The PyTorch module with its weights; `names` are the outputs' names, `keys` what the spec's parameters are called in it where that differs."""

    def __init__(self, module: ModuleType, model: torch.nn.Module, names: tuple[str, ...], keys: Mapping[str, str] = NO_KEYS) -> None:
        self.module, self.model, self.names = module, model.eval(), names
        self.spec_names = {there: own for own, there in keys.items()}

    def apart(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors of the module by name; where it has several linear maps in one, those of each."""
        take: Callable[..., dict[str, torch.Tensor]] | None = getattr(self.module, "taken_apart", None)
        return tensors if take is None else take(tensors, self.model)

    def together(self, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The other way round."""
        put: Callable[..., dict[str, torch.Tensor]] | None = getattr(self.module, "put_together", None)
        return tensors if put is None else put(tensors, self.model)

    @staticmethod
    def build(
        module: ModuleType, config: Mapping[str, int | float], dtype: str, names: tuple[str, ...], keys: Mapping[str, str] = NO_KEYS
    ) -> TorchModule:
        import torch

        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)  # tables that are computed are as exact as what they are compared with
        try:
            model = module.Model(module.Config(**config))
        finally:
            torch.set_default_dtype(before)
        return TorchModule(module, model.to(getattr(torch, dtype)), names, keys)

    @staticmethod
    def published(module: ModuleType, folder: Path, dtype: str, names: tuple[str, ...], keys: Mapping[str, str] = NO_KEYS) -> TorchModule:
        import torch

        return TorchModule(module, module.Model.from_pretrained(folder).to(getattr(torch, dtype)), names, keys)

    def to(self, dtype: str) -> None:
        import torch

        self.model.to(getattr(torch, dtype))

    def state(self) -> dict[str, Array]:
        """The weights by the module's own keys."""
        return {name: value.detach().numpy().copy() for name, value in self.apart(self.model.state_dict()).items()}

    def weights(self) -> dict[str, Array]:
        """The weights by the spec's names."""
        return {self.spec_names.get(name, name): array for name, array in self.state().items()}

    def load(self, params: Arrays) -> None:
        """Take weights by the spec's names; an array of the same number of entries is reshaped (a matrix in place of named axes)."""
        import torch

        state = self.apart(self.model.state_dict())
        own = {self.spec_names.get(name, name): value for name, value in state.items()}
        if surplus := sorted(set(own) - set(params)):
            raise ModuleError(f"the module has parameters that the spec lacks: {', '.join(surplus[:4])}")
        for name, value in own.items():
            if value.numel() != params[name].size:
                raise ModuleError(f"{name} is {tuple(value.shape)} in the module and {params[name].shape} in the spec")
        names = {there: self.spec_names.get(there, there) for there in state}
        made = {n: torch.from_numpy(np.array(params[names[n]])).reshape(v.shape).to(v.dtype) for n, v in state.items()}
        self.model.load_state_dict(self.together(made))

    def __call__(self, inputs: Arrays, **options: object) -> dict[str, Array]:
        import torch

        with torch.no_grad():
            return named(self.model(**self.tensors(inputs), **options), self.names)

    def in_training(self, inputs: Arrays) -> tuple[dict[str, Array], dict[str, Array]]:
        """Outputs in training mode, and the buffers afterwards; the model itself stays as it was."""
        before = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.train()
        try:
            found = self(inputs)
            return found, {name: value.numpy().copy() for name, value in self.model.named_buffers()}
        finally:
            self.model.eval()
            self.model.load_state_dict(before)

    def start(self, batch: int) -> dict[str, torch.Tensor]:
        init_state: Callable[[int], dict[str, torch.Tensor]] = getattr(self.model, "init_state")  # noqa: B009 -- some modules have it
        return init_state(batch)

    @property
    def has_cache(self) -> bool:
        return hasattr(self.model, "init_cache")

    def cache(self, batch: int, length: int) -> object:
        init_cache: Callable[..., object] = getattr(self.model, "init_cache")  # noqa: B009 -- some modules have it
        return init_cache(batch, length, dtype=self.dtype)

    def tensors(self, inputs: Arrays) -> dict[str, torch.Tensor]:
        import torch

        return {n: torch.from_numpy(np.array(a)).to(self.dtype if a.dtype.kind == "f" else None) for n, a in inputs.items()}

    @property
    def dtype(self) -> torch.dtype:
        """The weights'; without any, that of the interpreter."""
        import torch

        return next((p.dtype for p in self.model.parameters()), torch.float64)

    def gradients(self, inputs: Arrays, project: Mapping[str, Array]) -> dict[str, Array]:
        """Of the sum of outputs times `project`, by the spec's names (flat, in the module's order)."""
        import torch

        self.model.zero_grad()
        result = self.model(**self.tensors(inputs))
        fields = result._asdict() if hasattr(result, "_asdict") else {self.names[0]: result}
        total = sum((fields[n] * torch.from_numpy(p)).sum() for n, p in project.items() if n in fields)
        if not isinstance(total, torch.Tensor) or not total.requires_grad:  # nothing to learn
            return {}
        total.backward()  # type: ignore[no-untyped-call]
        found = {n: (p.grad if p.grad is not None else torch.zeros_like(p)).detach() for n, p in self.model.named_parameters()}
        return {self.spec_names.get(n, n): g.numpy().reshape(-1) for n, g in self.apart(found).items()}


class NumpyModule:
    """The NumPy file with its weights."""

    def __init__(self, module: ModuleType, params: Arrays, config: object, dtype: str, names: tuple[str, ...]) -> None:
        kind = np.dtype(dtype)
        self.module = module
        self.forward: Callable[..., object] = module.forward
        self.init_state: Callable[[Arrays, int], dict[str, Array]] | None = getattr(module, "init_state", None)
        self.params = {n: a.astype(kind) if a.dtype.kind == "f" else a for n, a in params.items()}
        self.config, self.kind, self.names = config, kind, names

    def start(self, batch: int) -> dict[str, Array]:
        assert self.init_state is not None
        return self.init_state(self.params, batch)

    def cache(self, batch: int, length: int) -> object:
        init_cache: Callable[[Arrays, int], object] = getattr(self.module, "init_cache")  # noqa: B009 -- some modules have it
        return init_cache(self.params, batch)

    def __call__(self, inputs: Arrays, **options: object) -> dict[str, Array]:
        given = {n: a.astype(self.kind) if a.dtype.kind == "f" else a for n, a in inputs.items()}
        with np.errstate(all="ignore"):
            return named(self.forward(self.params, **given, **options, config=self.config), self.names)
