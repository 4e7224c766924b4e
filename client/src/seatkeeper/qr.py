"""Small files as QR codes, for machines that share a camera and nothing else.

The JSON is written without whitespace and in ASCII, in byte mode, so that every reader gives back the same text. What
does not fit one symbol is spread over several by structured append (ISO/IEC 18004), which fewer readers know: join what
they read, in the order of their numbers.
"""

import io
import json
from collections.abc import Sequence

import segno

from seatkeeper.errors import ConfigurationError

TOO_LONG = "This file is too long for QR codes. Hand over the file itself."

_MOST_BYTES = 2953
_MOST_SYMBOLS = 16
_PIXELS = 4


class QrCodes:
    """One symbol, or several in their order. `text` is what they hold together."""

    def __init__(self, text: str, symbols: Sequence[segno.QRCode]) -> None:
        self.text = text
        self.symbols = tuple(symbols)

    def terminal(self) -> str:
        """All of them, drawn with half blocks, each under its number where there are several."""
        drawn = []
        for number, symbol in enumerate(self.symbols, 1):
            out = io.StringIO()
            symbol.terminal(out, compact=True)
            drawn.append(f"{number}/{len(self.symbols)}\n{out.getvalue()}" if len(self.symbols) > 1 else out.getvalue())
        return "\n".join(drawn)

    def svg(self) -> list[bytes]:
        """Each as an SVG file."""
        return [self._saved(symbol, "svg") for symbol in self.symbols]

    def png(self) -> list[bytes]:
        """Each as a PNG file."""
        return [self._saved(symbol, "png") for symbol in self.symbols]

    @staticmethod
    def _saved(symbol: segno.QRCode, kind: str) -> bytes:
        out = io.BytesIO()
        symbol.save(out, kind=kind, scale=_PIXELS)
        return out.getvalue()


def encode(file: bytes) -> QrCodes:
    """The QR codes of a JSON file. ConfigurationError where 16 symbols do not hold it."""
    text = json.dumps(json.loads(file), separators=(",", ":"))
    for count in range(len(text) // _MOST_BYTES + 1, _MOST_SYMBOLS + 1):
        try:
            return QrCodes(text, _symbols(text, count))
        except segno.DataOverflowError:
            continue
    raise ConfigurationError(TOO_LONG)


def _symbols(text: str, count: int) -> Sequence[segno.QRCode]:
    if count == 1:
        return [segno.make_qr(text, error="L", mode="byte")]
    return list(segno.make_sequence(text, error="L", mode="byte", symbol_count=count))
