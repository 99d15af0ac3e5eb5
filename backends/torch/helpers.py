"""Functions that a generated file brings along, each only where it is used."""

HELPERS = {
    "float32": '''def float32(x: Tensor) -> Tensor:
    """At least float32: float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))''',
    "float32_like": '''def float32(x: Tensor, like: Tensor | None = None) -> Tensor:
    """At least float32: float64 stays, and integers become it where `like` is it."""
    return x.to(torch.promote_types(x.dtype if like is None else like.dtype, torch.float32))''',
    "linear_recurrence": '''def linear_recurrence(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """h[t] = a[t] * h[t - 1] + b[t] along `dim`, by doubling: after step n each entry has gathered 2n steps."""
    a, b = a.movedim(dim, 0), b.movedim(dim, 0)
    step = 1
    while step < b.shape[0]:
        b = torch.cat((b[:step], b[step:] + a[step:] * b[:-step]))
        a = torch.cat((a[:step], a[step:] * a[:-step]))
        step *= 2
    return b.movedim(0, dim)''',
}


def chosen_helpers(wanted: set[str]) -> list[str]:
    """Their source; of two forms of one function the more general."""
    names = wanted - {"float32"} if "float32_like" in wanted else wanted
    return [HELPERS[n] for n in sorted(names)]
