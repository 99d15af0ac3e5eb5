"""Let a model that examples/train.py has trained go on with a text.

python examples/generate.py RUN "The assert statement" --tokens 200 --temperature 0.8
"""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path

import torch
from compiled import compiled


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path, help="the folder of a training")
    p.add_argument("prompt")
    p.add_argument("--tokens", type=int, default=200)
    p.add_argument("--temperature", type=float, default=0.8)
    p.add_argument("--top-k", type=int)
    p.add_argument("--top-p", type=float)
    p.add_argument("--seed", type=int, default=0)
    a = p.parse_args()
    made = json.loads((a.run / "run.json").read_text())
    kind = compiled(made["spec"], made["sets"], a.run)
    if not hasattr(kind, "stream"):
        sys.exit(f"{made['spec']} cannot be decoded a token at a time: `xfc check {made['spec']}` says why")
    model = kind.from_pretrained(a.run).eval()
    ids = torch.tensor([list(a.prompt.encode())])
    given = {"input_ids": ids}
    if "decoder_input_ids" in inspect.signature(kind.forward).parameters:
        given["decoder_input_ids"] = torch.zeros(1, 1, dtype=torch.long)
    generator = torch.Generator().manual_seed(a.seed)
    out = sys.stdout.buffer
    out.write(a.prompt.encode())
    for token in model.stream(
        **given, max_new_tokens=a.tokens, temperature=a.temperature, top_k=a.top_k, top_p=a.top_p, generator=generator
    ):
        out.write(bytes([min(int(token), 255)]))
        out.flush()
    out.write(b"\n")


if __name__ == "__main__":
    main()
