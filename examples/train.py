"""Train any autoregressive spec on text, byte by byte.

    python examples/train.py RUN                                        # examples/bytes.yaml on Python's own documentation
    python examples/train.py RUN --spec gpt2 --set vocab=256 --set d_model=192 --set decoder.layers=4 --steps 2000
    python examples/train.py RUN --text my.txt --steps 4000             # goes on where RUN stopped

Warm-up and cosine schedule, gradient accumulation, clipping, label smoothing, bf16 autocast on a GPU, fused AdamW that decays matrices only.
RUN holds model.py, the checkpoint (a run that was cut off goes on exactly as if it had not been), the losses, and loss.svg."""

from __future__ import annotations

import argparse
import inspect
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from compiled import compiled
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

HERE = Path(__file__).parent


def arguments() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path, help="the folder of this training")
    p.add_argument(
        "--spec", default=str(HERE / "bytes.yaml"), help="a path or the name of a shipped spec; its vocabulary must hold 256 bytes"
    )
    p.add_argument("--set", action="append", default=[], dest="sets", metavar="PATH=VALUE")
    p.add_argument("--text", type=Path, help="a file to learn; by default the topics of Python's help()")
    p.add_argument("--tokens", type=int, default=256, help="of a row")
    p.add_argument("--batch", type=int, default=8, help="rows of a forward pass")
    p.add_argument("--accumulate", type=int, default=2, help="forward passes of a step")
    p.add_argument("--steps", type=int, default=500)
    p.add_argument("--warmup", type=int, default=50)
    p.add_argument("--rate", type=float, default=1e-3)
    p.add_argument("--decay", type=float, default=0.1)
    p.add_argument("--clip", type=float, default=1.0)
    p.add_argument("--smoothing", type=float, default=0.0)
    p.add_argument("--save-every", type=int, default=100)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--torch-compile", action="store_true")
    return p.parse_args()


def text(path: Path | None) -> Tensor:
    """The bytes to learn."""
    if path is not None:
        return torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    from pydoc_data.topics import topics

    return torch.frombuffer(bytearray("\n".join(topics.values()).encode()), dtype=torch.uint8)


def rows(data: Tensor, a: argparse.Namespace, number: int) -> Tensor:
    """Pass `number` of the whole training: the same rows whenever it is asked for."""
    generator = torch.Generator().manual_seed(a.seed * 1_000_003 + number)
    starts = torch.randint(0, len(data) - a.tokens, (a.batch,), generator=generator)
    return torch.stack([data[s : s + a.tokens] for s in starts.tolist()]).long().to(a.device)


def loss_of(model: nn.Module, ids: Tensor, smoothing: float, two_sided: bool) -> Tensor:
    """The mean cross entropy of the next byte; an encoder-decoder reads the first half and says the second."""
    given, labels = {"input_ids": ids}, ids
    if two_sided:
        source, labels = ids.chunk(2, 1)
        given = {"input_ids": source, "decoder_input_ids": F.pad(labels[:, :-1], (1, 0))}
    if smoothing == 0:
        return model(**given, labels=labels)
    logits = model(**given)
    if not two_sided:
        logits, labels = logits[:, :-1], labels[:, 1:]
    return F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten(), label_smoothing=smoothing)


def optimiser_of(model: nn.Module, a: argparse.Namespace) -> torch.optim.AdamW:
    """Weight decay for matrices, not for norms and biases."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": a.decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=a.rate, betas=(0.9, 0.95), fused=True)


def rate(a: argparse.Namespace, step: int) -> float:
    """Up in a line, down in a cosine to a tenth."""
    if step < a.warmup:
        return a.rate * (step + 1) / a.warmup
    done = (step - a.warmup) / max(1, a.steps - a.warmup)
    return a.rate * (0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, done))))


def train(a: argparse.Namespace) -> list[float]:
    torch.manual_seed(a.seed)
    kind = compiled(a.spec, a.sets, a.run)
    model = kind().to(a.device).train()
    two_sided = "decoder_input_ids" in inspect.signature(kind.forward).parameters
    optimiser, losses = optimiser_of(model, a), []
    place = a.run / "checkpoint.pt"
    if place.exists():
        losses = load(place, model, optimiser)
    forward = torch.compile(model) if a.torch_compile else model
    data = text(a.text)
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("loss", total=a.steps, completed=len(losses))
        for step in range(len(losses), a.steps):
            for group in optimiser.param_groups:
                group["lr"] = rate(a, step)
            total = torch.zeros((), device=a.device)
            for k in range(a.accumulate):
                with torch.autocast(a.device, torch.bfloat16, enabled=a.device == "cuda"):
                    loss = loss_of(forward, rows(data, a, step * a.accumulate + k), a.smoothing, two_sided) / a.accumulate
                loss.backward()
                total += loss.detach()
            nn.utils.clip_grad_norm_(model.parameters(), a.clip)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            losses.append(total.item())
            bar.update(task, completed=step + 1, description=f"loss {losses[-1]:.3f}")
            if (step + 1) % a.save_every == 0 or step + 1 == a.steps:
                save(place, model, optimiser, losses)
                plot(losses, a.run / "loss.svg")
    (a.run / "run.json").write_text(json.dumps({"spec": a.spec, "sets": a.sets}))
    model.save_pretrained(a.run)
    return losses


def save(place: Path, model: nn.Module, optimiser: torch.optim.Optimizer, losses: list[float]) -> None:
    """Everything that the next step depends on, written whole or not at all."""
    state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "losses": losses, "random": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["random_cuda"] = torch.cuda.get_rng_state_all()
    torch.save(state, place.with_suffix(".part"))
    place.with_suffix(".part").replace(place)


def load(place: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> list[float]:
    state = torch.load(place, weights_only=True)
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    torch.set_rng_state(state["random"])
    if "random_cuda" in state:
        torch.cuda.set_rng_state_all(state["random_cuda"])
    found: list[float] = state["losses"]
    return found


def plot(losses: list[float], path: Path, width: int = 640, height: int = 320) -> None:
    """The losses as a picture."""
    low, high = min(losses), max(max(losses), min(losses) + 1e-9)
    points = " ".join(
        f"{40 + (width - 50) * k / max(1, len(losses) - 1):.1f},{10 + (height - 40) * (high - y) / (high - low):.1f}"
        for k, y in enumerate(losses)
    )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/><polyline points="{points}" fill="none" stroke="#1f77b4"/>'
        f'<text x="4" y="16">{high:.2f}</text><text x="4" y="{height - 30}">{low:.2f}</text>'
        f'<text x="{width - 90}" y="{height - 8}">{len(losses)} steps</text></svg>\n'
    )


if __name__ == "__main__":
    train(arguments())
