"""What the benchmark on a GPU runs: shipped specs at sizes of its own, and the arithmetic behind its shares."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

XFC = Path(sys.executable).with_name("xfc")


@dataclass(frozen=True)
class Case:
    """A spec, what is set in it, and the numbers of its Config; `slack`: how much wider the bounds of its numbers are."""

    spec: str
    config: Mapping[str, float]
    sets: tuple[str, ...] = ()
    slack: float = 1


PARITY = {
    "llama": Case("llama3_8b", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 512}),
    "gpt2": Case("gpt2", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "size": 512}),
    "mixtral": Case("mixtral_8x7b", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 512}),
    "gemma2": Case(
        "gemma2_2b",
        {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 64, "window": 40, "hidden": 512},
    ),
    "gemma3": Case(
        "gemma3_1b",
        {"vocab": 512, "d_model": 256, "layers": 7, "heads": 4, "kv_heads": 1, "head_dim": 64, "window": 40, "hidden": 512},
    ),
    "bloom": Case("bloom_560m", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4}),
    "deepseek": Case(
        "deepseek_v3",
        {
            "vocab": 512,
            "d_model": 256,
            "q_rank": 128,
            "kv_rank": 64,
            "nope_dim": 32,
            "rope_dim": 32,
            "v_dim": 32,
            "heads": 4,
            "ffn_hidden": 512,
            "experts": 16,
            "groups": 4,
            "top_groups": 2,
            "top_k": 4,
            "hidden": 128,
        },
        ("decoder.blocks=[dense * 1, sparse * 2]",),
    ),
    "mamba2": Case("mamba2_130m", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 8, "head_dim": 64, "state": 64}),
    # distances of 16, 32 and 64 lie on the edges of its buckets: rounding says in which
    "t5": Case("t5_small", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "head_dim": 64, "hidden": 512}, slack=10),
    "bert": Case("bert_base", {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "size": 512}),
}
"""Small models, each of whose sizes kernels like."""

FLEX = {
    "gemma2": {
        "full": Case("gemma2_2b", {"layers": 4, "window": 1024}),
        "tiny": PARITY["gemma2"],
    },
    "bloom": {"full": Case("bloom_560m", {"layers": 6}), "tiny": PARITY["bloom"]},
    "mistral": {
        "full": Case("mistral_7b", {"layers": 3, "window": 1024}),
        "tiny": Case("mistral_7b", {**PARITY["llama"].config, "window": 40}),
    },
}  # fmt: skip
"""A soft cap with windows, a distance for each head, windows alone."""


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, and what of it a step must compute or read."""

    vocab: int
    d_model: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    experts: int = 0
    top_k: int = 0
    tied: bool = False

    @property
    def head_dim(self) -> int:
        return self.d_model // self.heads

    def config(self) -> dict[str, float]:
        names = ["vocab", "d_model", "layers", "heads", "kv_heads", "hidden", *(["experts", "top_k"] if self.experts else [])]
        return {name: getattr(self, name) for name in names}

    def weights(self, experts: float, head: bool = True) -> float:
        """Weights multiplied for one token, of so many experts in a layer."""
        attention = self.d_model * self.head_dim * 2 * (self.heads + self.kv_heads)
        ffn = 3 * self.d_model * self.hidden * (experts or 1) + self.d_model * self.experts
        return self.layers * (attention + ffn) + (self.vocab * self.d_model if head else 0)

    def attention_flops(self, keys: float) -> float:
        """Of one query: both products."""
        return 4 * self.layers * self.heads * self.head_dim * keys

    def training_flops(self, batch: int, tokens: int) -> float:
        """PaLM's convention (arXiv:2204.02311, appendix B): six for each weight and token, and all pairs of tokens three times."""
        return batch * tokens * (6 * self.weights(self.top_k) + 3 * self.attention_flops(tokens))

    def prompt_flops(self, batch: int, tokens: int) -> float:
        """What a causal prompt needs, with the logits of its last token."""
        each = 2 * self.weights(self.top_k, head=False) + self.attention_flops(tokens / 2)
        return batch * (tokens * each + 2 * self.vocab * self.d_model)

    def step_bytes(self, keys: float, size: int) -> float:
        """What one token of one sequence must read: the weights it needs, and keys and values."""
        return size * (self.weights(self.top_k) + 2 * self.layers * self.kv_heads * self.head_dim * keys)


TINY = {"vocab": 512, "d_model": 256, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 512}
SHAPES = {
    "1b": {
        "full": Shape(vocab=128256, d_model=2048, layers=16, heads=32, kv_heads=8, hidden=8192, tied=True),
        "tiny": Shape(**TINY, tied=True),
    },
    "8b": {"full": Shape(vocab=128256, d_model=4096, layers=32, heads=32, kv_heads=8, hidden=14336), "tiny": Shape(**TINY)},
    "mixtral": {
        "full": Shape(vocab=32000, d_model=2048, layers=16, heads=32, kv_heads=8, hidden=3584, experts=8, top_k=2),
        "tiny": Shape(**TINY, experts=8, top_k=2),
    },
}
SPECS = {"1b": "llama3_2_1b", "8b": "llama3_8b", "mixtral": "mixtral_8x7b"}


@dataclass(frozen=True)
class Place:
    """Where models run, and where their modules lie."""

    device: str
    size: str
    modules: Path
    eager: bool
    rounds: int
    loaded: dict[str, ModuleType] = field(default_factory=dict)

    def module(self, case: Case, flex: bool = False) -> ModuleType:
        """The module of a spec: as it lies there already, or as xfc writes it now."""
        name = case.spec + ("_flex" if flex else "")
        if name not in self.loaded:
            path = write(self.modules, case, flex)
            spec = importlib.util.spec_from_file_location(name, path)
            assert spec is not None and spec.loader is not None
            self.loaded[name] = module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
        return self.loaded[name]

    def build(self, case: Case, dtype: torch.dtype, flex: bool = False) -> Any:
        """A model with weights that depend on the seed alone, made where it will run."""
        module, before = self.module(case, flex), torch.get_default_dtype()
        torch.manual_seed(0)
        torch.set_default_dtype(dtype)
        try:
            with torch.device(self.device):
                return module.Model(module.Config(**case.config))
        finally:
            torch.set_default_dtype(before)

    def decoder(self, name: str) -> tuple[Shape, Any]:
        shape = SHAPES[name][self.size]
        return shape, self.build(Case(SPECS[name], shape.config()), torch.bfloat16)

    def compiled(self, function: Any, graphs: bool = False) -> Any:
        """Compiled for the sizes it is called with; `graphs`: replayed as a CUDA graph."""
        if self.eager:
            return function
        return torch.compile(function, fullgraph=True, dynamic=False, mode="reduce-overhead" if graphs and self.device == "cuda" else None)

    def ids(self, vocab: int, batch: int, tokens: int) -> Tensor:
        return torch.randint(0, vocab, (batch, tokens), generator=torch.Generator().manual_seed(1)).to(self.device)


def write(folder: Path, case: Case, flex: bool) -> Path:
    """Compile a spec into a folder, unless it is there."""
    path = folder / f"{case.spec}{'_flex' if flex else ''}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = ["compile", case.spec, *(w for s in case.sets for w in ("--set", s)), *(["--flex"] if flex else []), "-o", str(path)]
        done = subprocess.run([XFC, *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
    return path


def write_all(folder: Path) -> list[Path]:
    """Every module that some row needs."""
    cases = [(c, False) for c in PARITY.values()] + [(Case(s, {}), False) for s in SPECS.values()]
    cases += [(sizes["full"], flex) for sizes in FLEX.values() for flex in (False, True)]
    return [write(folder, case, flex) for case, flex in cases]
