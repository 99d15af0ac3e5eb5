"""The rows of the benchmark on a GPU: each a function of a place that gives a table of numbers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from by_hand import ByHand
from by_hand import Shape as HandShape
from gpu_models import FLEX, PARITY, Place, Shape
from torch import Tensor

Row = dict[str, object]
BOUNDS = {"float32": (1e-4, 1e-3), "bfloat16": (5e-2, 2e-1)}
"""For logits, of half of the tokens (rounding may send others to other experts), and for gradients, as a part of their norm; float32 without TF32."""


def seconds(place: Place, run: Callable[[], object]) -> float:
    if place.device == "cpu":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    first.record()
    run()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def alternating(place: Place, runs: dict[str, Callable[[], object]], warm: int = 3) -> dict[str, list[float]]:
    """Seconds of every run in every round, in turn."""
    for run in runs.values():
        for _ in range(warm):
            run()
    found: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for k in range(place.rounds):
        for name in order[k % len(order) :] + order[: k % len(order)]:
            found[name].append(seconds(place, runs[name]))
    return found


def apart(x: Tensor, y: Tensor) -> float:
    """The norm of the difference as a part of that of y."""
    x, y = x.detach().double().cpu(), y.detach().double().cpu()
    return float((x - y).norm() / y.norm().clamp(min=1e-30))


def middle_apart(x: Tensor, y: Tensor) -> float:
    """The same of each row, and of these the median."""
    x, y = (z.detach().double().cpu().flatten(0, -2) for z in (x, y))
    return float(((x - y).norm(dim=-1) / y.norm(dim=-1).clamp(min=1e-30)).median())


# ---------------------------------------------------------------- what the machine can do


def matmul_rate(place: Place) -> float:
    """The best rate of a product in bfloat16, in operations a second."""
    best = 0.0
    for n in (4096, 8192) if place.size == "full" else (256,):
        x, y = (torch.randn(n, n, device=place.device, dtype=torch.bfloat16) for _ in range(2))
        best = max(best, 2 * n**3 / min(seconds(place, partial(torch.matmul, x, y)) for _ in range(20)))
    return best


def bandwidth(place: Place) -> float:
    """The best rate of reading, or of reading and writing, in bytes a second."""
    size = (4 << 30) if place.size == "full" else (1 << 22)
    whole = torch.ones(size // 4, device=place.device)
    half = whole[: len(whole) // 2]
    other = torch.empty_like(half)
    read = size / min(seconds(place, whole.sum) for _ in range(10))
    return max(read, size / min(seconds(place, partial(other.copy_, half)) for _ in range(10)))


def rates(place: Place) -> Row:
    return {"matmul_tflops": matmul_rate(place) / 1e12, "bytes_gb_per_s": bandwidth(place) / 1e9, "ok": True}


# ---------------------------------------------------------------- the same numbers


def inputs_of(family: str, place: Place, tokens: int) -> dict[str, Tensor]:
    ids = place.ids(512, 2, tokens)
    if family == "t5":
        return {"input_ids": ids, "decoder_input_ids": place.ids(512, 2, tokens).flip(1)}
    if family in ("bert", "gemma2", "bloom"):  # with padding, on the left
        return {"input_ids": ids, "attention_mask": (torch.arange(tokens) >= torch.tensor([[0], [7]])).long().to(place.device)}
    return {"input_ids": ids}


def results(model: Any, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits of tokens that are no padding, and the gradients of the loss, one after the other."""
    model.zero_grad()
    output = model(**inputs)
    logits = output if isinstance(output, Tensor) else output.logits
    labels = inputs.get("decoder_input_ids", inputs["input_ids"])
    if "attention_mask" in inputs:
        logits = logits[inputs["attention_mask"] == 1]
        labels = labels.where(inputs["attention_mask"] == 1, -100)
    model(**inputs, labels=labels).backward()
    return logits.detach(), torch.cat([p.grad.flatten().double().cpu() for p in model.parameters() if p.grad is not None])


def decoded(model: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of a prompt and tokens one at a time, and of all at once."""
    start, total = ids.shape[1] - 8, ids.shape[1]
    with torch.no_grad():
        cache = model.init_cache(len(ids), total)
        found = [model(ids[:, :start], cache=cache), *(model(ids[:, k : k + 1], cache=cache) for k in range(start, total))]
        return torch.cat(found, 1), model(ids)


def parity(family: str, place: Place) -> Row:
    """A small model there in float32 and bfloat16 beside the same in float64 on the CPU."""
    case = PARITY[family]
    row: Row = {}
    cpu = Place("cpu", place.size, place.modules, place.eager, place.rounds)
    reference = cpu.build(case, torch.float64).eval()
    given = inputs_of(family, cpu, 128)
    logits, gradients = results(reference, given)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    good = True
    for name, (near, steep) in BOUNDS.items():
        model = cpu.build(case, torch.float64).eval()
        model.load_state_dict(reference.state_dict())
        model = model.to(place.device, getattr(torch, name))
        found, own = results(model, {n: x.to(place.device) for n, x in given.items()})
        difference, steepness = middle_apart(found, logits), apart(own, gradients)
        row |= {f"{name}_logits": difference, f"{name}_all_logits": apart(found, logits), f"{name}_gradients": steepness}
        good &= difference <= near * case.slack and steepness <= steep * case.slack
        if hasattr(model, "init_cache") and family != "t5":
            row[f"{name}_decoded"] = difference = middle_apart(*decoded(model, given["input_ids"].to(place.device)))
            good &= difference <= near * case.slack
    return {**row, "ok": good}


# ---------------------------------------------------------------- FlexAttention


def flex(family: str, place: Place) -> Row:
    """The same model compiled with and without FlexAttention: difference, forwards, forwards and backwards. On the CPU both are the plain form."""
    case = FLEX[family][place.size]
    batch, tokens = (2, 4096) if place.size == "full" else (2, 128)
    models = {"plain": place.build(case, torch.bfloat16), "flex": place.build(case, torch.bfloat16, flex=True)}
    models["flex"].load_state_dict(models["plain"].state_dict())
    ids = place.ids(case.config.get("vocab", 32000), batch, tokens)
    runs: dict[str, Callable[[], object]] = {}
    logits = {}
    for name, model in models.items():
        forward = place.compiled(lambda ids, model=model: model(ids, logits_to_keep=1))
        loss = place.compiled(lambda ids, model=model: model(ids, labels=ids))

        def train(model: Any = model, loss: Any = loss) -> None:
            model.zero_grad(set_to_none=True)
            loss(ids).backward()

        with torch.no_grad():
            logits[name] = forward(ids)
        runs |= {f"{name}_forwards": torch.no_grad()(partial(forward, ids)), f"{name}_both_ways": train}
    difference = apart(logits["flex"], logits["plain"])
    found = alternating(place, runs)
    slopes = [torch.cat([p.grad.flatten() for p in m.decoder.layers.parameters() if p.grad is not None]) for m in models.values()]
    steep = apart(slopes[1], slopes[0])
    middle = {name: statistics.median(own) for name, own in found.items()}
    ratios = {f"ratio_{way}": middle[f"flex_{way}"] / middle[f"plain_{way}"] for way in ("forwards", "both_ways")}
    near, far = BOUNDS["bfloat16"]
    row: Row = {
        **ratios,
        **middle,
        "difference": difference,
        "gradient_difference": steep,
        "tokens": tokens,
        "batch": batch,
        "samples": found,
    }
    return row | {"ok": difference <= near and steep <= far, **peak(place)}


# ---------------------------------------------------------------- speed


def by_hand(shape: Shape, place: Place) -> ByHand:
    """The same architecture as it is written by hand, with weights of its own."""
    own = HandShape(vocab=shape.vocab, width=shape.d_model, layers=shape.layers, heads=shape.heads, kv_heads=shape.kv_heads, head_dim=shape.head_dim,
                    hidden=shape.hidden, experts=shape.experts, chosen=shape.top_k, theta=500000.0, learned=False, tied=shape.tied, eps=1e-5)  # fmt: skip
    torch.manual_seed(0)
    with torch.device(place.device):
        model = ByHand(own)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    return model.to(torch.bfloat16)


def train(name: str, place: Place) -> Row:
    """A training step at 4,096 tokens, beside the one by hand; the share of the matmul rate by PaLM's convention."""
    rate = matmul_rate(place)
    shape, model = place.decoder(name)
    batch, tokens = (2, 4096) if place.size == "full" else (1, 64)
    ids = place.ids(shape.vocab, batch, tokens)
    runs: dict[str, Callable[[], object]] = {}
    sides = {"generated": (model, lambda ids: model(ids, labels=ids)), "hand": (hand := by_hand(shape, place), hand.loss)}
    for side, (own, loss) in sides.items():
        optimiser = torch.optim.AdamW(own.parameters(), lr=1e-5, fused=True)
        compiled = place.compiled(loss)

        def step(optimiser: Any = optimiser, compiled: Any = compiled) -> None:
            optimiser.zero_grad(set_to_none=True)
            compiled(ids).backward()
            optimiser.step()

        runs[side] = step
    found = alternating(place, runs)
    work = shape.training_flops(batch, tokens)
    row: Row = {f"{side}_seconds": statistics.median(own) for side, own in found.items()}
    row |= {f"{side}_mfu": work / statistics.median(own) / rate for side, own in found.items()}
    row["ratio"] = statistics.median([x / y for x, y in zip(found["generated"], found["hand"], strict=True)])
    row |= {"batch": batch, "tokens": tokens, "matmul_tflops": rate / 1e12, "samples": found, "ok": True}
    return row | peak(place)


def decode(name: str, place: Place) -> Row:
    """One token of one sequence, replayed as a CUDA graph; the share of the bandwidth."""
    rate = bandwidth(place)
    shape, model = place.decoder(name)
    start, steps = (512, 64) if place.size == "full" else (16, 4)
    ids = place.ids(shape.vocab, 1, start + steps)
    model.eval()
    with torch.no_grad():
        cache = model.init_cache(1, start + steps)
        model(ids[:, :start], cache=cache, logits_to_keep=1)
        one = place.compiled(lambda token: model(token, cache=cache, logits_to_keep=1), graphs=True)
        tokens = ids[:, start:].split(1, 1)

        def run() -> Tensor:
            cache.position.fill_(start)
            for token in tokens:
                y = one(token)
            return y

        last = run().clone()
        difference = apart(last[:, -1], model(ids, logits_to_keep=1)[:, -1])
        found = [s / steps for s in alternating(place, {"token": run})["token"]]
    middle = statistics.median(found)
    work = shape.step_bytes(start + steps / 2, 2)
    return {"seconds": middle, "bandwidth_share": work / middle / rate, "tokens_per_second": 1 / middle, "difference": difference, "context": start,
            "bytes_gb_per_s": rate / 1e9, "samples": found, "ok": difference <= BOUNDS["bfloat16"][0], **peak(place)}  # fmt: skip


def prefill(name: str, place: Place) -> Row:
    """A prompt of 4,096 tokens into a cache; the share of the matmul rate."""
    rate = matmul_rate(place)
    shape, model = place.decoder(name)
    tokens = 4096 if place.size == "full" else 64
    ids = place.ids(shape.vocab, 1, tokens)
    model.eval()
    with torch.no_grad():
        cache = model.init_cache(1, tokens)
        one = place.compiled(lambda ids: model(ids, cache=cache, logits_to_keep=1))

        def run() -> None:
            cache.position.fill_(0)
            one(ids)

        found = alternating(place, {"prompt": run})["prompt"]
    middle = statistics.median(found)
    return {"seconds": middle, "matmul_share": shape.prompt_flops(1, tokens) / middle / rate, "tokens": tokens, "matmul_tflops": rate / 1e12,
            "samples": found, "ok": True, **peak(place)}  # fmt: skip


def peak(place: Place) -> Row:
    return {"peak_gb": torch.cuda.max_memory_allocated() / 1e9} if place.device == "cuda" else {}


ROWS: dict[str, Callable[[Place], Row]] = {
    "rates": rates,
    **{f"parity_{family}": partial(parity, family) for family in PARITY},
    **{f"flex_{family}": partial(flex, family) for family in FLEX},
    "train_1b": partial(train, "1b"),
    "decode_1b": partial(decode, "1b"),
    "decode_8b": partial(decode, "8b"),
    "prefill_8b": partial(prefill, "8b"),
    "train_mixtral": partial(train, "mixtral"),
}
