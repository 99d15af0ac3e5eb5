"""The `xfc` command."""


def main() -> None:
    raise SystemExit("xfc: not built yet")
