"""The numbers of a system in its SMBIOS table (DMTF DSP0134, 6.1 and 7.2 f). Pure."""

_SYSTEM, _BOARD, _END = 1, 2, 127
_SERIAL_AT = 7
_UUID_AT = slice(8, 24)
_HEADER = 4


def system_serials(table: bytes) -> dict[str, str]:
    """By name, best first; a damaged table gives what stands before the damage."""
    found: dict[int, tuple[bytes, list[bytes]]] = {}
    while len(table) > _HEADER and table[0] != _END and table[1] >= _HEADER:
        formatted, rest = table[: table[1]], table[table[1] :]
        strings, _, table = rest.partition(b"\0\0")
        found.setdefault(formatted[0], (formatted, strings.split(b"\0")))
    uuid = found[_SYSTEM][0][_UUID_AT].hex() if _SYSTEM in found else ""
    return {
        "system UUID": uuid,
        "system serial": _serial(found.get(_SYSTEM)),
        "board serial": _serial(found.get(_BOARD)),
    }


def _serial(structure: tuple[bytes, list[bytes]] | None) -> str:
    if structure is None or len(structure[0]) <= _SERIAL_AT:
        return ""
    formatted, strings = structure
    number = formatted[_SERIAL_AT]
    return strings[number - 1].decode(errors="replace") if 0 < number <= len(strings) else ""
