"""Specs of any size: each construct of the language, n times. What they mean is nothing much; how long they take must grow with n and no faster."""

from __future__ import annotations

from collections.abc import Callable

HEAD = "model a(n = 3)(x: [b, t, n]) -> [b, t, n]:\n"
RETURN = "    return x\n"


def lines(n: int, line: str) -> str:
    """The line n times, with `#` for its number."""
    return "".join(line.replace("#", str(k)) for k in range(n))


def joined(n: int, item: str, between: str = ", ") -> str:
    return between.join(item.replace("#", str(k)) for k in range(n))


def body(n: int, line: str) -> str:
    return HEAD + lines(n, line) + RETURN


RIGHT: dict[str, Callable[[int], str]] = {
    "statements": lambda n: body(n, "    x = x + x\n"),
    "names": lambda n: HEAD + "    y0 = x\n" + "".join(f"    y{k + 1} = tanh(y{k})\n" for k in range(n)) + f"    return y{n}\n",
    "living values": lambda n: HEAD + lines(n, "    y# = tanh(# * x)\n") + lines(n, "    x = x * y#\n") + RETURN,
    "nameless values": lambda n: body(n, "    x = tanh(x) * sigmoid(x) + relu(-x)\n"),
    "lets": lambda n: HEAD + "    let a0 = n\n" + "".join(f"    let a{k + 1} = a{k} + 1\n" for k in range(n)) + f"    return x * a{n}\n",
    "functions": lambda n: lines(n, "fn f#(x) = x + #\n") + body(n, "    x = f#(x)\n"),
    "components": lambda n: lines(n, "component f#(x: [..., d]) -> [..., d]:\n    w = param([d])\n    return # * x * w\n\n")
    + body(n, "    g# = f#\n    x = g#(x)\n"),
    "instances": lambda n: body(n, "    g# = linear(n)\n    x = g#(x)\n"),
    "parameters": lambda n: body(n, "    p# = param([n])\n    x = x * p#\n"),
    "contractions": lambda n: body(n, "    p# = param([n, n'])\n    x = rename(einsum(x, p#, over = n), n' = n)\n"),
    "inputs": lambda n: f"model a(n = 3)({joined(n, 'x#: [b, n]')}) -> [b, n]:\n    x = x0\n"
    + "".join(f"    x = x + x{k}\n" for k in range(1, n))
    + RETURN,
    "outputs": lambda n: f"model a(n = 3)(x: [b, n]) -> ({joined(n, 'y#: [b, n]')}):\n    return {joined(n, '# * x')}\n",
    "widths": lambda n: f"model a(m = 3, {', '.join(f'n{k} = {k + 5}' for k in range(n))})(x: [b, m]) -> [b, m]:\n"
    + lines(n, "    p# = param([m, n#])\n    x = x + sum(p#, n#)\n")
    + RETURN,
    "floats": lambda n: f"model a(d = 3, {joined(n, 'n# = #.5')})(x: [b, d]) -> [b, d]:\n" + lines(n, "    x = x * n#\n") + RETURN,
    "arguments": lambda n: f"component f({joined(n, 'a# = 1')})(x: [..., d]) -> [..., d]:\n"
    + lines(n, "    x = x * a#\n")
    + f"{RETURN}\n{HEAD}    g = f({joined(n, 'a# = #')})\n    return g(x)\n",
    "models": lambda n: f"model a0(n = 3)(x: [b, n]) -> [b, n]:\n{RETURN}\n" + "".join(f"model a{k + 1} extends a{k}:\n    n = {k}\n\n" for k in range(n)),
    "unrolled": lambda n: HEAD + f"    for k in [{joined(n, '#')}]:\n        x = x + k\n" + RETURN,
    "branches": lambda n: body(n, "    if n == 3:\n        x = x + #\n"),
    "states": lambda n: body(n, "    state s#: [b, n] = zeros\n    next s# = s# + 1\n    x = x + s#\n"),
    "givens": lambda n: "component f(x: [b, t, d]) -> [b, t, d]:\n"
    + lines(n, "    given g#: [t] = 0\n    x = x + like(g#, x)\n")
    + f"{RETURN}\n{HEAD}    return f(x)\n",
    "emitted": lambda n: "component f(x: [b, t, d]) -> [b, t, d]:\n" + lines(n, "    emit e# = x * #\n") + f"{RETURN}\n{HEAD}    g = f\n    y = g(x)\n    return y + g.e0\n",
    "losses": lambda n: body(n, "    loss l# = mean(# * x ^ 2, [b, t, n])\n"),
    "layers": lambda n: HEAD + f"    l = [{joined(n, 'plain(hidden = 5)')}]\n    return l(x)\n",
    "stacks": lambda n: body(n, "    l# = 2 of plain(hidden = 5)\n    x = l#(x)\n"),
    "joined": lambda n: HEAD + f"    return sum(concat({joined(n, 'x')}, over = t), t) + x\n",
    "checkpoint": lambda n: body(n, "    p# = param([n])\n    x = x * p#\n") + "\ncheckpoint huggingface for a:\n" + lines(n, '    "w.#" = p#\n'),
    "comments": lambda n: "# a comment\n" * n + HEAD + RETURN,
    "long names": lambda n: HEAD + f"    {'y' * n} = x + 1\n    return {'y' * n}\n",
    "long strings": lambda n: HEAD + f'    "{"a word " * n}"\n' + RETURN,
}  # fmt: skip
"""Specs that are compiled."""

WRONG: dict[str, Callable[[int], str]] = {
    "unknown names": lambda n: body(n, "    y# = nothing#(x)\n"),
    "unknown arguments": lambda n: "model a = causal_lm:\n    vocab = 97\n    d_model = 24\n" + lines(n, "    nothing# = 1\n"),
    "unread": lambda n: body(n, "    y# = x + #\n"),
    "kinds": lambda n: body(n, "    loss l# = mean(x)\n"),
    "shapes": lambda n: body(n, "    p# = param([n: #])\n    y# = x + p#\n"),
    "syntax": lambda n: body(n, "    y = = 3\n"),
    "twice": lambda n: lines(n, "fn f(x) = x + #\n") + HEAD + RETURN,
}
"""Specs with n mistakes."""

YAML: dict[str, Callable[[int], str]] = {
    "keys": lambda n: "model: a\ntype: causal_lm\n" + lines(n, "k#: 1\n"),
    "list": lambda n: f"model: a\ntype: causal_lm\nvocab: [{joined(n, '1')}]\n",
    "lets": lambda n: "model: a\ntype: causal_lm\nlet:\n" + lines(n, "  k#: 1\n") + "vocab: 1\n",
    "aliases": lambda n: f"model: a\nlet:\n  a: &a [{joined(n, '1')}]\n" + lines(n, "  b#: *a\n"),
}
