"""The implementations that are compared, each able to run a prompt, decode tokens and make a training step of one family."""

from __future__ import annotations

import copy
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from by_hand import ByHand, Shape
from families import FAMILIES, hugging_face_config, hugging_face_model
from torch import Tensor, nn

XFC = Path(sys.executable).with_name("xfc")


class Side:
    """One model. `compiled`: its prompt, its token and its loss go through torch.compile."""

    def __init__(self, name: str, model: nn.Module, given: dict[str, Tensor], causal: bool, compiled: bool) -> None:
        self.name, self.model, self.given, self.causal, self.compiled = name, model, given, causal, compiled
        self.last = "decoder_input_ids" if "decoder_input_ids" in given else "input_ids"
        self.ids = given[self.last]
        self.labels = self.ids if "attention_mask" not in given else self.ids.where(given["attention_mask"] == 1, -100)

    def wrapped(self, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return torch.compile(function, dynamic=False) if self.compiled else function

    def loss(self) -> Tensor:
        """The training loss of all tokens."""
        raise NotImplementedError

    def prompt(self) -> Callable[[], Tensor]:
        """The logits of the last token (a model that does not decode: of all)."""
        raise NotImplementedError

    def decoding(self, tokens: int) -> Callable[[], Tensor]:
        """The last tokens one at a time, all before them being known."""
        raise NotImplementedError

    def training(self) -> Callable[[], Tensor]:
        """Forward, backward and the optimiser."""
        self.model.train()
        optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        loss = self.wrapped(self.loss)

        def step() -> Tensor:
            optimiser.zero_grad(set_to_none=True)
            value = loss()
            value.backward()
            optimiser.step()
            return value.detach()

        return step


class HuggingFace(Side):
    def loss(self) -> Tensor:
        options = {"use_cache": False} if self.causal else {}
        return self.model(**self.given, labels=self.labels, **options).loss

    def prompt(self) -> Callable[[], Tensor]:
        if not self.causal or self.last != "input_ids":
            return self.wrapped(lambda: self.model(**self.given).logits)
        return self.wrapped(lambda: self.model(**self.given, use_cache=not self.compiled, logits_to_keep=1).logits[:, -1])

    def decoding(self, tokens: int) -> Callable[[], Tensor]:
        from transformers import DynamicCache, EncoderDecoderCache

        if self.compiled:
            return self._compiled_decoding(tokens)
        start = self.ids.shape[1] - tokens
        cache: Any = DynamicCache(config=self.model.config)
        options: dict[str, Any] = {}
        if self.last != "input_ids":
            cache = EncoderDecoderCache(cache, DynamicCache(config=self.model.config))
            options["encoder_outputs"] = self.model.get_encoder()(self.given["input_ids"])

        def logits(a: int, b: int, cache: Any) -> Tensor:
            return self.model(**{self.last: self.ids[:, a:b]}, **options, past_key_values=cache, use_cache=True).logits[:, -1]

        logits(0, start, cache)
        forgets = getattr(self.model.config, "sliding_window", None) is not None  # such a cache cannot be cropped: a copy is used up

        def run() -> Tensor:
            own = copy.deepcopy(cache) if forgets else cache
            for k in range(start, start + tokens):
                y = logits(k, k + 1, own)
            if not forgets:
                cache.crop(-tokens)
            return y

        return run

    def _compiled_decoding(self, tokens: int) -> Callable[[], Tensor]:
        """With the cache of a fixed size that Hugging Face has for torch.compile."""
        from transformers import StaticCache

        config, (batch, length) = self.model.config, self.ids.shape
        cache = StaticCache(config=config, max_cache_len=length)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cache.early_initialization(batch, heads, size, torch.float32, torch.device("cpu"))
        self.model(self.ids[:, : length - tokens], past_key_values=cache, use_cache=True)
        step = self.wrapped(lambda ids: self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1])

        def run() -> Tensor:
            for layer in cache.layers:
                layer.cumulative_length.fill_(length - tokens)
            for k in range(length - tokens, length):
                y = step(self.ids[:, k : k + 1])
            return y

        return run


class Hand(Side):
    model: ByHand

    def loss(self) -> Tensor:
        return self.model.loss(self.ids)

    def prompt(self) -> Callable[[], Tensor]:
        cache = self.model.new_cache(*self.ids.shape)
        return self.wrapped(lambda: self.model.last(self.ids, cache))

    def decoding(self, tokens: int) -> Callable[[], Tensor]:
        start = self.ids.shape[1] - tokens
        cache = self.model.new_cache(*self.ids.shape)
        self.model.last(self.ids[:, :start], cache)
        step = self.wrapped(lambda ids, at: self.model.last(ids, cache, at))
        places = [torch.tensor(k) if self.compiled else k for k in range(start, start + tokens)]

        def run() -> Tensor:
            for k, at in zip(range(start, start + tokens), places, strict=True):
                y = step(self.ids[:, k : k + 1], at)
            return y

        return run


class Generated(Side):
    model: Any

    def logits(self, given: dict[str, Tensor], **options: Any) -> Tensor:
        y = self.model(**given, **options)
        found: Tensor = y if isinstance(y, Tensor) else y.logits
        return found

    def loss(self) -> Tensor:
        return self.model(**self.given, labels=self.labels)

    def prompt(self) -> Callable[[], Tensor]:
        if not self.causal or self.last != "input_ids":
            return self.wrapped(lambda: self.logits(self.given))
        cache = self.model.init_cache(*self.ids.shape)
        last = self.wrapped(lambda: self.logits(self.given, cache=cache, logits_to_keep=1)[:, -1])

        def run() -> Tensor:
            cache.position.fill_(0)
            return last()

        return run

    def decoding(self, tokens: int) -> Callable[[], Tensor]:
        start = self.ids.shape[1] - tokens
        cache = self.model.init_cache(*self.ids.shape)
        self.model(**self.given | {self.last: self.ids[:, :start]}, cache=cache)
        step = self.wrapped(lambda ids: self.logits({self.last: ids}, cache=cache, logits_to_keep=1)[:, -1])

        def run() -> Tensor:
            cache.position.fill_(start)
            for k in range(start, start + tokens):
                y = step(self.ids[:, k : k + 1])
            return y

        return run


def make(name: str, family: str, size: str, given: dict[str, Tensor]) -> Side:
    """A side by name: hf_eager, hf_sdpa, hand or generated, with `+compile` its compiled twin, with `+fuse` linear maps of one value as one,
    with `+recompute2` every second layer computed again on the way back."""
    kind, *options = name.split("+")
    compiled = "compile" in options
    causal = FAMILIES[family].causal
    if kind.startswith("hf_"):
        return HuggingFace(name, hugging_face_model(family, size, kind[3:]), given, causal, compiled)
    if kind == "hand":
        model = ByHand(Shape.of(hugging_face_config(family, size)))
        return Hand(name, model.take(hugging_face_model(family, size, "sdpa").state_dict()), given, causal, compiled)
    made: Any = generated(family, size, fuse="fuse" in options)
    for option in options:
        if option.startswith("recompute"):
            made.recompute_layers(int(option.removeprefix("recompute") or 1))
    for kind in layer_kinds(made) if "once" in options else ():
        kind.forward = torch.compiler.nested_compile_region(kind.forward)
    return Generated(name, made, given, causal, compiled)


def layer_kinds(model: nn.Module) -> set[Any]:
    """The classes of the layers of all stacks."""
    return {type(layer) for stack in model.modules() if isinstance(stack, nn.ModuleList) for layer in stack}


def generated(family: str, size: str, fuse: bool = False) -> nn.Module:
    """The module that xfc makes of the config, with the weights of the model of Hugging Face, loaded by their published names."""
    with tempfile.TemporaryDirectory() as folder:
        hugging_face_model(family, size, "sdpa").save_pretrained(folder)
        made = module_of(hugging_face_config(family, size), f"{family}_{size}{'_fused' if fuse else ''}", fuse)
        model: nn.Module = made.Model.from_pretrained(folder)
        return model


def module_of(hugging_face: Any, name: str, fuse: bool = False) -> Any:
    """What xfc makes of a config of Hugging Face."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "benchmark.json"
        config.write_text(json.dumps(hugging_face.to_dict()))
        code = Path(folder) / f"{name}.py"
        for words in (
            ["import", str(config), "-o", str(config.with_suffix(".yaml"))],
            ["compile", str(config.with_suffix(".yaml")), "-o", str(code), *(["--fuse"] if fuse else [])],
        ):
            done = subprocess.run([XFC, *words], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stdout + done.stderr)
        spec = importlib.util.spec_from_file_location(code.stem, code)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
