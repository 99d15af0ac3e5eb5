"""Models for long sequences: time and peak memory of a forward pass at growing lengths, each model in a process of its own, with their slopes.

    python benchmarks/long.py                                          # the table of docs/performance.md
    python benchmarks/long.py --models windowed longformer --lengths 1024 4096

Times and peaks are of each side alone; the ratio of times is the median over nine rounds in which both run, in turn, in one process.
The slope is that of log time (and of log peak memory above the loaded model) over log length from 4,096 tokens on: 1 is linear, 2 quadratic.
Where Hugging Face has such a model, it runs at the same sizes beside ours (its kernels of choice, `sdpa` where it has them); for others the
well-known packages do (`pip install -c constraints.txt -e .[benchmarks]`)."""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

XFC = Path(sys.executable).with_name("xfc")
RESULTS = Path(__file__).parent / "results"
LENGTHS = (1024, 4096, 8192, 16384, 32768)
WIDTH, HEADS, VOCAB, WINDOW = 64, 2, 256, 256

SIZES = f"""
    vocab = {VOCAB}
    d_model = {WIDTH}
"""
SPECS = {
    "windowed": f"""
model windowed = causal_lm:{SIZES}    decoder:
        layers = 2
        attention = multi_head(heads = {HEADS}, rotate = rope, mask = sliding({WINDOW}) and padding)
        ffn = gated(hidden = 128)
""",
    "linear_attention": f"""
model linear = causal_lm:{SIZES}    decoder:
        layers = 2
        attention = linear_attention(heads = {HEADS})
        ffn = plain(hidden = 256)
""",
    "gated_linear_attention": f"""
model forgetting = causal_lm:{SIZES}    decoder:
        layers = 2
        attention = gated_linear_attention(heads = {HEADS})
        ffn = gated(hidden = 128)
""",
    "mamba": f"""
model selective = state_space_lm:{SIZES}    layers = 2
    mixer = mamba(inner = 2 * d_model, state = 16, rank = 4)
""",
    "performer_causal": f"""
model performing extends performer_causal:{SIZES}    decoder.layers = 2
    decoder.attention.heads = {HEADS}
    decoder.attention.features = 64
""",
    "performer": f"""
model performing extends performer:{SIZES}    encoder.layers = 2
    encoder.attention.heads = {HEADS}
    encoder.attention.features = 64
""",
    "linformer": f"""
model low_rank extends linformer:{SIZES}    length = 32768
    encoder.layers = 2
    encoder.attention.heads = {HEADS}
    encoder.attention.rank = 64
""",
    "longformer": f"""
model longer extends longformer_base:{SIZES}    position.size = 65536
    encoder.layers = 2
    encoder.attention.heads = {HEADS}
    encoder.attention.window = {WINDOW}
""",
    "reformer": f"""
model hashing extends reformer_crime_and_punishment:{SIZES}    heads = {HEADS}
    head_dim = 32
    position.width = 16
    decoder.blocks = 2 of [near, alike]
""",
}
THEIRS = {**dict.fromkeys(("windowed", "longformer", "reformer", "mamba"), ("hugging_face",)), "gated_linear_attention": ()}
"""Beside whose it runs, if not a package's."""


def ours(name: str) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    """The generated model, and its inputs for some ids."""
    import torch

    folder = Path(tempfile.mkdtemp())
    (folder / "spec.xf").write_text(SPECS[name])
    done = subprocess.run([XFC, "compile", folder / "spec.xf", "-o", folder / "made.py"], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    spec = importlib.util.spec_from_file_location("made", folder / "made.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["made"] = module
    spec.loader.exec_module(module)
    model = module.Model().eval()

    def inputs(ids: Any) -> dict[str, Any]:
        if name == "longformer":
            chosen = torch.zeros_like(ids)
            chosen[:, 0] = 1
            return {"input_ids": ids, "global_attention_mask": chosen}
        if name == "reformer":
            return {"input_ids": ids, "rotations": torch.randn(HEADS, 32, 1, 96)}
        return {"input_ids": ids}

    return model, inputs


def hugging_face(name: str, length: int) -> tuple[Any, Callable[[Any], dict[str, Any]]] | None:
    """Hugging Face's model of the same kind and size, if there is one."""
    import torch
    import transformers as hf

    sizes = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": HEADS}
    if name == "windowed":
        config = hf.MistralConfig(
            **sizes, num_key_value_heads=HEADS, intermediate_size=128, sliding_window=WINDOW, max_position_embeddings=65536
        )
        return hf.MistralForCausalLM(config).eval(), lambda ids: {"input_ids": ids, "use_cache": False}
    if name == "mamba":
        config = hf.MambaConfig(vocab_size=VOCAB, hidden_size=WIDTH, num_hidden_layers=2, state_size=16, time_step_rank=4)
        return hf.MambaForCausalLM(config).eval(), lambda ids: {"input_ids": ids, "use_cache": False}
    if name == "longformer":
        config = hf.LongformerConfig(**sizes, intermediate_size=4 * WIDTH, attention_window=[WINDOW] * 2, max_position_embeddings=65536)

        def inputs(ids: Any) -> dict[str, Any]:
            chosen = torch.zeros_like(ids)
            chosen[:, 0] = 1
            return {"input_ids": ids, "global_attention_mask": chosen}

        return hf.LongformerForMaskedLM(config).eval(), inputs
    if name == "reformer":
        config = hf.ReformerConfig(
            vocab_size=VOCAB, hidden_size=WIDTH, num_attention_heads=HEADS, attention_head_size=32, feed_forward_size=512,
            attn_layers=["local", "lsh"], axial_pos_shape=[length // 64, 64], axial_pos_embds_dim=[16, 48],
            num_buckets=[64, 128], max_position_embeddings=length, is_decoder=True, use_cache=False,
        )  # fmt: skip
        return hf.ReformerModelWithLMHead(config).eval(), lambda ids: {"input_ids": ids}
    return None


def packaged(name: str, length: int) -> tuple[Any, Callable[[Any], dict[str, Any]]]:
    """The same of performer-pytorch, linformer or linear-attention-transformer."""
    from linear_attention_transformer import LinearAttentionTransformerLM
    from linformer import LinformerLM
    from performer_pytorch import PerformerLM

    sizes: dict[str, Any] = {"num_tokens": VOCAB, "dim": WIDTH, "depth": 2, "heads": HEADS, "dim_head": WIDTH // HEADS}
    model: Any
    match name:
        case "linformer":
            model = LinformerLM(**sizes, seq_len=32768, k=64)
        case "linear_attention":
            model = LinearAttentionTransformerLM(**sizes, max_seq_len=length, causal=True)
        case _:
            model = PerformerLM(**sizes, max_seq_len=length, causal=name == "performer_causal", nb_features=64)
    return model.eval(), lambda ids: {"x": ids}


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def peak() -> float:
    """The highest so far, since `clear_refs` was written to last."""
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))


def measure(name: str, side: str, lengths: Sequence[int], rounds: int) -> None:
    """In a process of its own, at each length: processor seconds of the fastest of several passes, and the peak of memory above what was there.

    The one is read of a process as it is, the other of one whose allocator gives back what is free: else it keeps up to as much again,
    by the order in which blocks of several sizes were asked for."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = ours(name) if side == "generated" else None
    for length in lengths:
        found = made or (hugging_face if side == "hugging_face" else packaged)(name, length)
        assert found is not None
        model, inputs = found
        given = inputs(torch.randint(0, VOCAB, (1, length)))
        seconds = []
        with torch.no_grad():
            if length == lengths[0]:
                model(**given)  # what the first pass alone needs
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            before = resident()
            Path("/proc/self/clear_refs").write_text("5")
            for _ in range(rounds):
                start = time.process_time()
                model(**given)
                seconds.append(time.process_time() - start)
        print(length, json.dumps({"seconds": min(seconds), "peak_mb": peak() - before}), flush=True)


def alternate(name: str, side: str, lengths: Sequence[int], rounds: int) -> None:
    """In one process, at each length: the median over rounds of our processor time over theirs in the same round."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    made = ours(name)
    for length in lengths:
        found = (hugging_face if side == "hugging_face" else packaged)(name, length)
        assert found is not None
        ids = torch.randint(0, VOCAB, (1, length))
        both = [(model, inputs(ids)) for model, inputs in (made, found)]
        ratios = []
        with torch.no_grad():
            for k in range(rounds + 1):
                taken = [0.0, 0.0]
                for which in (0, 1) if k % 2 else (1, 0):
                    model, given = both[which]
                    start = time.process_time()
                    model(**given)
                    taken[which] = time.process_time() - start
                ratios.append(taken[0] / taken[1])
        print(length, json.dumps({"ratio_seconds": round(statistics.median(ratios[1:]), 3)}), flush=True)


def slope(lengths: Sequence[int], values: Sequence[float]) -> float:
    """Of log value over log length, by least squares, from 4,096 tokens on."""
    pairs = [(math.log(n), math.log(v)) for n, v in zip(lengths, values, strict=True) if n >= 4096]
    x, y = (sum(p[k] for p in pairs) / len(pairs) for k in (0, 1))
    return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(SPECS), choices=list(SPECS))
    parser.add_argument("--lengths", nargs="+", type=int, default=LENGTHS)
    parser.add_argument("--theirs-up-to", type=int, default=16384, help="a dense mask of 32,768 tokens takes gigabytes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--name", default="long")
    parser.add_argument("--turns", type=int, default=9, help="rounds of both sides in one process, for their ratio")
    parser.add_argument("--both", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        (alternate if a.both else measure)(a.one[0], a.one[1], a.lengths, a.rounds)
        return
    results: dict[str, dict[str, dict[str, Any]]] = {}
    for name in a.models:
        for side in ("generated", *THEIRS.get(name, ("package",))):
            lengths = [n for n in a.lengths if side != "hugging_face" or n <= a.theirs_up_to]
            options = ["--lengths", *map(str, lengths), "--rounds", str(a.rounds)]
            rows: dict[str, dict[str, Any]] = {}
            for own, measured in (({}, "seconds"), ({"MALLOC_MMAP_THRESHOLD_": "65536"}, "peak_mb")):
                words = [sys.executable, __file__, "--one", name, side, *options]
                done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **own})
                for length, found in (line.split(" ", 1) for line in done.stdout.splitlines() if line[:1].isdigit()):
                    rows.setdefault(length, {})[measured] = json.loads(found)[measured]
            rows |= {str(n): {"failed": done.stderr.strip().splitlines()[-1:]} for n in lengths if str(n) not in rows}
            there = [n for n in lengths if "failed" not in rows[str(n)]]
            if side != "generated":
                words = [sys.executable, __file__, "--both", "--one", name, side, "--rounds", str(a.turns)]
                words += ["--lengths", *(str(n) for n in there if n <= 16384)]
                done = subprocess.run(words, capture_output=True, text=True)
                for length, ratio in (line.split(" ", 1) for line in done.stdout.splitlines() if line[:1].isdigit()):
                    rows[length] |= json.loads(ratio)
            summary: dict[str, Any] = {"lengths": rows}
            if sum(n >= 4096 for n in there) > 1:
                summary |= {f"slope_{k}": round(slope(there, [rows[str(n)][k] for n in there]), 3) for k in ("seconds", "peak_mb")}
            results.setdefault(name, {})[side] = summary
            print(name, side, json.dumps(summary), flush=True)
    import torch
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
    note = {
        "command": f"python benchmarks/long.py --name {a.name}",
        "machine": f"{platform.machine()}, 1 thread, cpu clock",
        "versions": versions,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{a.name}.json").write_text(json.dumps({**note, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
