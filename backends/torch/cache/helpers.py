"""What a generated file brings along to keep tokens and states, each only where it is used."""

from __future__ import annotations

from ....compiler import ir
from .slot_tables import reads_slots

CACHE_HELPERS = {
    "Slots": '''class Slots(NamedTuple):
    """Where the tokens of a call that goes on stand."""

    tokens: int
    end: int  # of what they see: behind them, where the host knows how many there are, else behind the last slot there is
    alone: bool  # one token that sees all of it: no causal mask hides anything
    at: Tensor | None = None  # their slots, where the host does not know them: else they are those before `end`

    def new(self) -> Tensor:
        """Their slots."""
        return torch.arange(self.end - self.tokens, self.end) if self.at is None else self.at''',
    "at_slots": '''def at_slots(tables: Sequence[Tensor], slots: Slots | None, tokens: int) -> tuple[Tensor, ...]:
    """Of what is known of every slot, the rows of the tokens of a call."""
    if slots is not None and slots.at is not None:
        return tuple(x.index_select(1, slots.at) for x in tables)
    start = 0 if slots is None else slots.end - tokens
    return tuple(x.narrow(1, start, tokens) for x in tables)''',
    "Rows": '''@dataclass
class Rows:
    """What the tokens so far left behind: [b, length, ...], or with the tokens along another dimension."""

    tensor: Tensor
    dim: int = 1  # of the tokens

    def keep(self, x: Tensor, slots: Slots | None) -> Tensor:
        """Write the tokens of a call, and give all there are so far: in a first call, which has no slots, x itself."""
        tokens = x.shape[self.dim]
        if slots is None:
            self.tensor.narrow(self.dim, 0, tokens).copy_(x)
            return x
        if slots.at is None:
            self.tensor.narrow(self.dim, slots.end - tokens, tokens).copy_(x)
        else:
            self.tensor.index_copy_(self.dim, slots.at, x.to(self.tensor.dtype))
        return self.tensor.narrow(self.dim, 0, slots.end)''',
    "OptionalRows": '''@dataclass
class OptionalRows(Rows):
    """The same of an input that may be left out: it stands for ones then."""

    given: bool = False  # in some call

    def keep_given(self, x: Tensor | None, slots: Slots | None) -> Tensor | None:
        """`x` may also be of all tokens so far: those of this call stand last. None: all ones, and nothing to mask."""
        if x is not None:
            self.given = True
            return self.keep(x if slots is None else x[:, -slots.tokens :], slots)
        if slots is None:
            self.tensor.fill_(1)
            return None
        if slots.alone and not self.given:
            return None
        return self.tensor.index_fill_(1, slots.new(), 1)[:, : slots.end]''',
    "Ring": '''@dataclass
class Ring(Rows):
    """The same of the last tokens alone, as many as a window sees; a new one takes the place of the oldest."""

    def keep(self, x: Tensor, slots: Slots | None) -> Tensor:
        """One token and those before it stand as they lie in the ring; several stand after what was there."""
        size, tokens = self.tensor.shape[self.dim], x.shape[self.dim]
        if tokens == 1 and slots is not None and slots.at is None:
            self.tensor.narrow(self.dim, (slots.end - 1) % size, 1).copy_(x)
            return self.tensor
        y = x if slots is None else self.tensor if tokens == 1 else torch.cat((self.tensor, x), self.dim)
        at = torch.arange(tokens, device=x.device) if slots is None else slots.new()
        last = x.narrow(self.dim, max(tokens - size, 0), min(tokens, size)).to(self.tensor.dtype)
        self.tensor.index_copy_(self.dim, at[-size:] % size, last)
        return y


def ring_slots(slots: Tensor, window: int, size: int) -> Tensor:
    """The slots of what a ring of this size gives; -window, which no query sees, where it holds nothing yet."""
    last = slots[:1] if slots.shape[0] == 1 else slots[:1] - 1
    held = last - (last - torch.arange(size, device=slots.device)) % size
    held = torch.where(held < 0, -window, held)
    return held if slots.shape[0] == 1 else torch.cat((held, slots))''',
    "follow": '''def follow(before: Tensor, x: Tensor) -> Tensor:
    """x [b, t, ...] after the last entries of the calls before, which then give way to its own."""
    y = torch.cat((before, x), 1)
    before.copy_(y[:, x.shape[1] :])
    return y''',
    "tensors": '''def tensors(part: object) -> Iterator[Tensor]:
    """All tensors of a cache that have a row for each sequence."""
    if isinstance(part, Tensor) and part.ndim > 0:
        yield part
    elif isinstance(part, list):
        for one in part:
            yield from tensors(one)
    elif is_dataclass(part):
        for each in fields(part):
            yield from tensors(getattr(part, each.name))''',
}


def cache_helpers(program: ir.Program, wanted: set[str]) -> list[str]:
    """Their source, in order; `tensors` serves every cache."""
    if program.decoding is None:
        return []
    names = wanted | {"Slots", "tensors"} | ({"Rows"} if wanted & {"Ring", "OptionalRows"} else set())
    found = {n: CACHE_HELPERS[n] for n in CACHE_HELPERS if n in names}
    if reads_slots(program):
        found["tensors"] = (
            found["tensors"]
            .replace("(part, list)", "(part, list | tuple)")
            .replace(" of a cache that have a row for each sequence", " of a cache")
        )
    return list(found.values())
