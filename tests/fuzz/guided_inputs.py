"""Inputs of the guided fuzzer: a letter that says how the rest is read, and the rest; and their mutations.

`x` a .xf text, `y` a YAML text, `j` a config.json, `c` choices of the generator of right specs, `g` choices of a tree that the grammar allows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from xfc.grammar.convert import to_yaml
from xfc.grammar.load import load

from ..random.choices import Choices
from ..random.models import random_spec
from .texts import MUTATIONS, ROOT, WORDS, Text, derived, nested

ENDINGS = {b"x": ".xf", b"y": ".yaml", b"j": ".json"}
LONGEST = 20_000
HOSTILE: list[object] = [
    None, True, False, 0, 1, -1, 1 << 70, 1e308, 0.5, "", "silu", "a b", "{{ 1 }}", '"""', "import os", "../x", "\u2028\n", "class", [], {}, [[]], [1, None],
    {"type": "x"}, "__class__", "causal", "none", 3, "9" * 400,
]  # fmt: skip


class Bytes(Random):
    """Random numbers that are these bytes, and zeros after them."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._data, self._at = data, 0

    def getrandbits(self, k: int, /) -> int:
        count = (k + 7) // 8
        taken = self._data[self._at : self._at + count]
        self._at += count
        return int.from_bytes(taken, "little") & ((1 << k) - 1)

    def random(self) -> float:
        return self.getrandbits(16) / 65536


def text_of(data: bytes) -> Text | None:
    """The ending and the content that an input stands for; none if it stands for nothing."""
    letter, rest = data[:1], data[1:]
    if letter in ENDINGS:
        return ENDINGS[letter], rest
    try:
        if letter == b"c":
            return ".xf", random_spec(Choices(Bytes(rest).randrange)).encode()
        if letter == b"g":
            return derived(Bytes(rest))
    except Exception:  # choices that nothing is made of
        return None
    return None


def mutate(data: bytes, longest: int, seed: int, of_bytes: Callable[[bytes, int], bytes]) -> bytes:
    """An input near another one: by its bytes, by its words and lines, or what it stands for as a text of its own."""
    random = Random(seed)
    letter, rest = data[:1], data[1:]
    if letter not in (*ENDINGS, b"c", b"g") or not rest:
        return fresh(random)[:longest]
    if letter in (b"c", b"g"):
        if random.random() < 0.7:
            return letter + of_bytes(rest, longest - 1)
        made = text_of(data)
        if made is None:
            return letter + of_bytes(rest, longest - 1)
        letter, rest = (b"x" if made[0] == ".xf" else b"y"), made[1]
    if random.random() < 0.15:
        return (letter + of_bytes(rest[: longest - 1], longest - 1))[:longest]
    if letter == b"j":
        return (letter + _json(random, rest))[:longest]
    text = rest.decode("utf-8", "surrogateescape")
    if letter == b"x" and random.random() < 0.05:
        text, letter = _as_yaml(text), b"y"
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        text = random.choice(MUTATIONS)(random, text)
    return (letter + text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape"))[:longest]


def crossed(one: bytes, other: bytes, longest: int, seed: int) -> bytes:
    """Some lines of one input within another."""
    random = Random(seed)
    if one[:1] != other[:1] or one[:1] not in (b"x", b"y"):
        return one[:longest]
    mine, theirs = one[1:].split(b"\n"), other[1:].split(b"\n")
    at, start = random.randrange(len(mine) + 1), random.randrange(len(theirs))
    mine[at : at + random.randrange(4)] = theirs[start : start + random.randrange(1, 12)]
    return (one[:1] + b"\n".join(mine))[:longest]


def fresh(random: Random) -> bytes:
    match random.randrange(3):
        case 0:
            return b"c" + random.randbytes(400)
        case 1:
            return b"g" + random.randbytes(400)
        case _:
            ending, content = nested(random)
            return (b"x" if ending == ".xf" else b"y") + content


def _as_yaml(text: str) -> str:
    file, problems = load("a.xf", text)
    return text if file is None or problems else to_yaml(file)


def _json(random: Random, rest: bytes) -> bytes:
    """A config with one value replaced, one key renamed, dropped or added."""
    try:
        config = json.loads(rest)
    except (ValueError, RecursionError):
        return rest + random.choice(WORDS).encode()
    if not isinstance(config, dict) or not config:
        return rest
    key = random.choice(sorted(config))
    match random.randrange(6):
        case 0 | 1 | 2:
            config[key] = random.choice(HOSTILE)
        case 3:
            config.pop(key)
        case 4:
            config[random.choice(("architectures", "model_type", "rope_scaling", "layer_types", random.choice(WORDS)))] = random.choice(
                HOSTILE
            )
        case _:
            inner = config[key]
            if isinstance(inner, dict) and inner:
                inner[random.choice(sorted(inner))] = random.choice(HOSTILE)
            elif isinstance(inner, list) and inner:
                inner[random.randrange(len(inner))] = random.choice(HOSTILE)
            else:
                config[key] = [inner]
    return json.dumps(config).encode()


def corpus(configs: list[bytes]) -> list[bytes]:
    """Specs of the repository, bad ones too, some of them in the other surface, and a few of each other kind."""
    found = []
    for path in sorted(
        [
            *(ROOT / "specs").rglob("*.xf"),
            *(ROOT / "specs").rglob("*.yaml"),
            *(ROOT / "tests").rglob("*.xf"),
            *(ROOT / "tests").rglob("*.yaml"),
        ]
    ):
        found.append((b"x" if path.suffix == ".xf" else b"y") + path.read_bytes())
    found = [*found[::3], *(b"y" + _as_yaml(made[1:].decode()).encode() for made in found[1::12] if made[:1] == b"x")]
    found += [b"j" + config for config in configs[::2]]
    found += [fresh(Random(seed)) for seed in range(30)]
    return [made for made in found if len(made) <= LONGEST]


def write_corpus(folder: Path, configs: list[bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, made in enumerate(corpus(configs)):
        (folder / f"seed{k}").write_bytes(made)
