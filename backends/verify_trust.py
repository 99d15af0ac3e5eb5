"""What is known of one spec besides the comparison: what the compiler proves, who else has computed it, and what nobody has checked."""

from __future__ import annotations

from ..compiler import ir
from ..compiler.ir import Program
from ..compiler.passes.derive_decoding import Refusal, derive_decoding
from ..compiler.passes.prove_causality import Flow, prove
from ..compiler.witnesses import witnesses_of
from ..grammar.frozen import frozen


@frozen(kw_only=True)
class Trust:
    """Sentences, for people and programs."""

    proved: tuple[str, ...]
    tested: tuple[str, ...]
    assumed: tuple[str, ...]

    def lines(self) -> list[str]:
        return [
            f"  {kind:8} {text}"
            for kind, texts in (("proved", self.proved), ("tested", self.tested), ("assumed", self.assumed))
            for text in texts
        ]


def trust_in(program: Program, *, changed: bool, smaller: bool, skipped: tuple[str, ...] = ()) -> Trust:
    """Requires: a program that was checked. `changed`: by `--set`, so that it is not what witnesses have seen; `smaller`: not compared at
    its own sizes; `skipped`: what was not compared."""
    flow = prove(program)
    return Trust(
        proved=tuple(_proved(program, flow)),
        tested=tuple(_tested(program, changed)),
        assumed=tuple(_assumed(program, flow, smaller, skipped)),
    )


def _proved(program: Program, flow: Flow) -> list[str]:
    modules = list(ir.walk(program.root))
    nodes = sum(len(m.body) for m in modules)
    facts = {(f.kind, f.a, f.b) for f in program.facts}
    sizes = f", under {len(facts)} conditions on sizes that hold here and that the code asserts" if facts else ""
    found = [f"shapes and dtypes of {nodes} operations in {len(modules)} components, for every length{sizes}"]
    found.append("every argument is read, every input and every tensor reaches a result")
    if stored := [r for r in program.checkpoint if r.own and not r.copy]:
        found.append(f"every weight is stored exactly once by the {len(stored)} rows of the checkpoint map")
    for output in dict.fromkeys(v.output for v in flow.verdicts):
        unseen = [f"`{v.input}`" for v in flow.verdicts if v.output == output and v.answer == "proved"]
        if unseen:
            found.append(f"no position of `{output}` sees later positions of {', '.join(unseen)}")
    decoding = derive_decoding(program, flow)
    if not isinstance(decoding, Refusal) and decoding.decoding is not None:
        found.append("what a cache must keep is derived from the same program: no second description of a step exists")
    return found


def _tested(program: Program, changed: bool) -> list[str]:
    rows = witnesses_of(program.span.source.path)
    if not rows:
        return ["by no witness: nobody else's implementation has been compared with this spec, only its own three readings"]
    told = [
        f"{w.models}: against {w.witness}" + (f", at most {max(w.torch, w.numpy, key=float)} off" if w.torch and w.numpy else "")
        for w in rows
    ]
    return [*told, *(["what `--set` changed has had no witness"] if changed else [])]


def _assumed(program: Program, flow: Flow, smaller: bool, skipped: tuple[str, ...]) -> list[str]:
    found = ["that the spec is elaborated as it is meant: all three read one typed program, and agree on a wrong one too (docs/trust.md)"]
    found += [f"{a.property}: {a.reason}" for a in program.assumptions]
    found += [
        f"nothing of whether `{v.output}` sees later `{v.input}`: {'it does' if v.answer == 'refuted' else 'it could not be told'}"
        for v in flow.verdicts
        if v is flow.decoded and v.answer != "proved" and flow.assumed is None
    ]
    if smaller:
        found.append("that what agrees at small sizes agrees at those of the spec: the program is the same, its numbers are others")
    found += [f"not compared: {what}" for what in skipped]
    return found
