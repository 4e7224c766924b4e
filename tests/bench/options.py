"""How long a benchmark measures."""

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`seconds` is the length of one run within a round. `full` asks for what takes an hour."""

    rounds: int = 5
    seconds: float = 4.0
    full: bool = False
