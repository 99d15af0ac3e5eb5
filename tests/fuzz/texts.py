"""Texts to try on the front ends: bytes, specs with mistakes in them, trees of the grammar printed, nesting without end. All from a seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from xfc.grammar.convert import to_xf, to_yaml
from xfc.grammar.load import load
from xfc.grammar.tree import File, Source, Span

from ..grammar.test_round_trip import Maker
from ..random.choices import Choices
from ..random.models import random_spec

ROOT = Path(__file__).resolve().parents[2]
SEEDS = sorted([*(ROOT / "specs").glob("*.xf"), *(ROOT / "specs" / "std").glob("*.xf"), *(ROOT / "tests" / "open").glob("*.xf")])
WORDS = str.split(
    "( ) [ ] : , = == != <= .. ... -> ' ^ // of if else elif for in not and or let shared given state loss emit next return model component mask score"
    " weights fn extends import checkpoint config ignore assume param buffer attend scan bank route linear einsum top where none true false b t d x 0 1 -1"
    ' 1e400 99999999999999999999 0.5 1e-5 causal padding softmax self __init__ import os # " \\ {i} {{ }} %} @ \t \u00a0 \u2028 \U0001f4a9 \u0000 \ufeff'
)
Text = tuple[str, bytes]
"""The ending of a file and its content."""


def mutated(random: Random) -> Text:
    """A spec with a few pieces deleted, doubled, moved or replaced."""
    path = random.choice(SEEDS)
    text = path.read_text(encoding="utf-8") if random.random() < 0.7 else random_spec(Choices.seeded(random.randrange(1 << 30)))
    ending = ".xf"
    if random.random() < 0.3:
        file, problems = load("a.xf", text)
        if file is not None and not problems:
            text, ending = to_yaml(file), ".yaml"
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        text = random.choice(MUTATIONS)(random, text)
    return ending, text.encode("utf-8", "surrogatepass")


def _cut(random: Random, text: str) -> str:
    a = random.randrange(len(text) + 1)
    return text[:a] + text[a + random.choice((1, 1, 2, 5, 40)) :]


def _doubled(random: Random, text: str) -> str:
    a = random.randrange(len(text) + 1)
    piece = text[a : a + random.choice((1, 3, 20, 200))]
    return text[:a] + piece * random.choice((2, 3, 30)) + text[a + len(piece) :]


def _inserted(random: Random, text: str) -> str:
    a = random.randrange(len(text) + 1)
    return text[:a] + random.choice(("", " ")) + random.choice(WORDS) + random.choice(("", " ")) + text[a:]


def _word(random: Random, text: str) -> str:
    """One word replaced by another of the text, so that kinds and shapes go wrong and the grammar does not."""
    words = text.split(" ")
    at = random.randrange(len(words))
    words[at] = random.choice(words) if random.random() < 0.7 else random.choice(WORDS)
    return " ".join(words)


def _number(random: Random, text: str) -> str:
    digits = [k for k, c in enumerate(text) if c.isdigit()]
    if not digits:
        return text
    at = random.choice(digits)
    return text[:at] + random.choice(("0", "1", "2", "7", "-1", "1.5", "none", "1e9", "d")) + text[at + 1 :]


def _lines(random: Random, text: str) -> str:
    lines = text.split("\n")
    a, b = random.randrange(len(lines)), random.randrange(len(lines))
    match random.randrange(4):
        case 0:
            lines[a], lines[b] = lines[b], lines[a]
        case 1:
            del lines[a]
        case 2:
            lines.insert(a, lines[b])
        case _:
            lines[a] = random.choice(("    ", " ", "\t", "")) + lines[a].strip()
    return "\n".join(lines)


def _spliced(random: Random, text: str) -> str:
    other = random.choice(SEEDS).read_text(encoding="utf-8")
    a, b = random.randrange(len(text) + 1), random.randrange(len(other) + 1)
    return text[:a] + other[b : b + 300] + text[a:]


MUTATIONS: tuple[Callable[[Random, str], str], ...] = (
    _cut,
    _doubled,
    _inserted,
    _word,
    _word,
    _word,
    _number,
    _number,
    _lines,
    _lines,
    _spliced,
)


def noise(random: Random) -> Text:
    """Bytes, or characters that mean something here and there."""
    if random.random() < 0.5:
        return random.choice((".xf", ".yaml")), random.randbytes(random.choice((0, 1, 10, 300)))
    return random.choice((".xf", ".yaml")), " ".join(random.choice(WORDS) for _ in range(random.randrange(200))).encode("utf-8", "replace")


def derived(random: Random) -> Text:
    """A tree that the grammar allows, printed: what it says is seldom meant."""
    maker = Maker(random)
    span = Span(Source("", ""), 0, 0)
    declarations = [random.choice((lambda: maker.component(2), maker.model, maker.map))() for _ in range(random.randrange(1, 5))]
    declarations.append(maker.model())
    file = File(span=span, imports=(), declarations=tuple(declarations))
    return (".xf", to_xf(file).encode("utf-8", "replace")) if random.random() < 0.6 else (".yaml", to_yaml(file).encode("utf-8", "replace"))


def nested(random: Random) -> Text:
    """Something inside itself, many times."""
    n = random.choice((10, 60, 70, 300, 3000))
    opened, closed = random.choice(
        (
            ("f(", ")"),
            ("[", "]"),
            ("-", ""),
            ("2 ^ ", ""),
            ("1 if a else ", ""),
            ("(", ")"),
            ("not ", ""),
            ("x.", ""),
            ("2 of ", ""),
            ("f(a = ", ")"),
            ("x[t = ", "]"),
        )
    )
    value = opened * n + "1" + closed * n
    forms = (
        f"model a = {value}\n",
        f"component f(x: [b]) -> [b]:\n    return {value}\n\nmodel a(n = 3)(x: [b, n]) -> [b, n]:\n    return f(x)\n",
        "model a(n = 3)(x: [b, n]) -> [b, n]:\n"
        + "".join("    " * (k + 1) + "if true:\n" for k in range(min(n, 300)))
        + "    " * (min(n, 300) + 1)
        + "return x\n",
        "".join(f"component f{k}(x: [b]) -> [b]:\n    return f{k + 1}(x)\n\n" for k in range(min(n, 300)))
        + "model a(x: [b]) -> [b]:\n    return f0(x)\n",
        "component f(x: [b]) -> [b]:\n    return f(x)\n\nmodel a(x: [b]) -> [b]:\n    return f(x)\n",
        "model a(x: [b]) -> [b]:\n" + "    x = x + x\n" * min(n * 3, 3000) + "    return x\n",
    )
    if random.random() < 0.3:
        return ".yaml", (
            "model: a\ntype: f\n" + "".join("  " * k + f"a{k}:\n" for k in range(min(n, 300))) + "  " * min(n, 300) + "b: 1\n"
        ).encode()
    return ".xf", random.choice(forms).encode()


KINDS: dict[str, Callable[[Random], Text]] = {"mutated": mutated, "noise": noise, "derived": derived, "nested": nested}


def random_text(random: Random) -> tuple[str, Text]:
    kind = random.choice(("mutated", "mutated", "mutated", "mutated", "noise", "derived", "derived", "nested"))
    return kind, KINDS[kind](random)
