"""Secrets and names are taken out of texts that leave the machine, and stay tellable apart.

Rules:
- What is known (the configuration's key, this host's name, this user's) is taken out wherever and however it is
  written: in another case, with other separators, escaped for JSON or a URL. What is not known is found by its look.
- Taken out are license keys, tokens, signed documents, private keys, passwords in URLs and behind telling names,
  `Authorization` and cookie headers, addresses (IPv4, IPv6, MAC, e-mail), names of hosts, users
  and devices, home folders.
- The same value has the same placeholder, `<address-1>`, within one `Redactor`, so that logs stay readable.
- Rather too much is taken out than too little: a version of four numbers reads as an address. A key that the vendor
  brought along looks like nothing, and is found where it is known or stands behind a telling name.
"""

import base64
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from json import dumps
from typing import Any, NamedTuple
from urllib.parse import quote, quote_plus

from seatkeeper import license_key


class Known(NamedTuple):
    """What is to be taken out whatever it looks like. Texts that are shorter than two characters are left alone."""

    keys: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    passwords: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def is_telling(name: str) -> bool:
    """Whether what stands under this name is secret by its name, such as `license_key` or `PASSWORD`."""
    return _TELLING.fullmatch(name) is not None


class _Rule(NamedTuple):
    """`pattern` finds; where it has a group `value`, that alone is taken out."""

    kind: str
    pattern: re.Pattern[str]


class Redactor:
    """Takes out, and counts what it took by kind: `taken`."""

    def __init__(self, known: Known = Known()) -> None:  # noqa: B008 - it is immutable
        self._rules = [
            *_known_secrets(known),
            *_SECRET_LOOKS,
            *_whole("name", known.names),
            *_PLACE_LOOKS,
            *_known_places(known),
        ]
        self._numbers: dict[tuple[str, str], int] = {}
        self.taken: Counter[str] = Counter()

    def text(self, text: str) -> str:
        pieces: list[_Piece] = [text]
        for rule in self._rules:
            pieces = [new for piece in pieces for new in self._applied(rule, piece)]
        return "".join(map(str, pieces))

    def data(self, value: Any, name: str = "") -> Any:
        """Plain data as JSON has it, its names too; what stands under a telling name is taken out whole."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.data(item, str(key)) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.data(item, name) for item in value]
        if isinstance(value, str):
            return str(self._mask("secret", value)) if value and is_telling(name) else self.text(value)
        return value

    def _applied(self, rule: _Rule, piece: "_Piece") -> Iterator["_Piece"]:
        if isinstance(piece, _Mask):
            yield piece
            return
        at = 0
        for start, end in _spans(rule, piece):
            yield piece[at:start]
            yield self._mask(rule.kind, piece[start:end])
            at = end
        yield piece[at:]

    def _mask(self, kind: str, value: str) -> "_Mask":
        self.taken[kind] += 1
        numbered = (kind, _normal(kind, value))
        of_kind = sum(1 for other, _ in self._numbers if other == kind)
        return _Mask(f"<{kind}-{self._numbers.setdefault(numbered, of_kind + 1)}>")


class _Mask(NamedTuple):
    """A piece of text that is done with."""

    placeholder: str

    def __str__(self) -> str:
        return self.placeholder


_Piece = str | _Mask


def _spans(rule: _Rule, text: str) -> Iterator[tuple[int, int]]:
    """Where to take out, from left to right and apart from each other."""
    done = 0
    for found in rule.pattern.finditer(text):
        start, end = found.span("value" if "value" in rule.pattern.groupindex else 0)
        if start >= done and end > start and (rule.kind != "key" or _is_key(found)):
            yield start, end
            done = end


def _is_key(found: re.Match[str]) -> bool:
    """A text of the shape of our own keys is one, unless it only may be by chance: then the check character tells."""
    return "chance" not in found.groupdict() or license_key.check(found["value"]) is None


def _normal(kind: str, value: str) -> str:
    return license_key.canonical(value) if kind == "key" else value.lower().strip()


# -- what is known -------------------------------------------------------------------------------------------------

_BETWEEN = r"[-_ \u00a0\u00ad\u2010-\u2015\u202f\u2212\u200b\u2060\ufeff]{0,3}"
_OWN_KEY = re.compile("1[0-9A-HJKMNP-TV-Z]{27}")
_LONG_ENOUGH_FOR_BASE64 = 6
_ALIKE = {"1": "1IiLl", "0": "0Oo"}


def _known_secrets(known: Known) -> Iterator[_Rule]:
    for kind, values in (("key", known.keys), ("token", known.tokens), ("password", known.passwords)):
        for value in _longest_first(values):
            yield _Rule(kind, re.compile(_anyhow(value, is_key=kind == "key"), re.IGNORECASE))
            if len(value) >= _LONG_ENOUGH_FOR_BASE64:
                yield _Rule(kind, re.compile(_in_base64(value)))


def _in_base64(value: str) -> str:
    """A run of base64 that holds it; what stands before it there decides which of three ways it is written."""
    data = value.encode()
    ways = []
    for before in range(3):
        written = base64.b64encode(bytes(before) + data).decode()
        ways.append(written[-(-before * 8 // 6) : (before + len(data)) * 8 // 6])
    either = ("|".join(map(re.escape, ways))).replace(r"\+", "[+-]").replace("/", "[/_]")
    return f"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]*(?:{either})[A-Za-z0-9+/_-]*={{0,2}}"


def _anyhow(value: str, *, is_key: bool) -> str:
    """Every way to write it; a key of ours with whatever stands between its characters."""
    value = value.strip()
    canonical = license_key.canonical(value) if is_key else ""
    written = "".join(map(_character, value))
    if _OWN_KEY.fullmatch(canonical) is None:
        return written
    return f"(?:{written}|{_BETWEEN.join(f'[{_ALIKE.get(symbol, symbol)}]' for symbol in canonical)})"


def _character(symbol: str) -> str:
    """As it is, or as it stands in a URL or in JSON."""
    ways = {symbol, quote(symbol, safe=""), quote_plus(symbol), dumps(symbol)[1:-1], symbol.replace("/", "\\/")}
    return "(?:" + "|".join(map(re.escape, sorted(ways, key=len, reverse=True))) + ")"


def _known_places(known: Known) -> Iterator[_Rule]:
    for home in _longest_first(known.homes):
        yield _Rule("home", re.compile(_anyhow(home, is_key=False), re.IGNORECASE))
    yield from _whole("host", known.hosts)
    yield from _whole("user", known.users)


def _whole(kind: str, values: Iterable[str]) -> Iterator[_Rule]:
    """Where they stand as words of their own."""
    for value in _longest_first(values):
        yield _Rule(kind, re.compile(rf"(?<![A-Za-z0-9]){_anyhow(value, is_key=False)}(?![A-Za-z0-9])", re.I))


def _longest_first(values: Iterable[str]) -> list[str]:
    return sorted({value for value in values if len(value) > 1}, key=len, reverse=True)


# -- what has a look -----------------------------------------------------------------------------------------------

_SYMBOL = "[0-9A-Za-z]"
_NAMES = r"[\w-]*(?:password|passwd|passphrase|pwd|secret|token|key|credentials?|cookie|dsn|nonce)"
_VARIABLES = r"(?:[A-Z0-9]+_)*(?:PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|TOKEN)|(?:[A-Z0-9]+_)+KEY"
_IS = r"\\?[\"']?\s*[=:]\s*\\?[\"']?"
_ASSIGNED = rf"(?<!\w){_NAMES}\\?[\"']?\s*(?:=|:(?!//))\s*"
_TELLING = re.compile(rf"{_NAMES}|authorization", re.IGNORECASE)
_HOST = r"[A-Za-z0-9](?:[\w-]*[A-Za-z0-9])?"
_USUAL = (
    "com|org|net|edu|gov|mil|int|io|dev|app|cloud|info|biz|xyz|online|site|tech|ai|co|eu|us|uk|de|fr|nl|be|ch|at|it|es|pt"
    "|se|no|fi|dk|cz|ru|ua|tr|cn|hk|tw|jp|kr|sg|au|nz|ca|br|mx|za|local|localdomain|internal|intranet|lan|home|corp"
    "|private|test|invalid|example|arpa"
)


def _look(kind: str, pattern: str, flags: int = re.IGNORECASE) -> _Rule:
    return _Rule(kind, re.compile(pattern, flags))


_SECRET_LOOKS = (
    _look("pem", r"-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\Z)", re.DOTALL),
    _look(
        "pem",
        r"(?<![A-Za-z0-9+/=])(?:[A-Za-z0-9+/=]{16,}+(?:\s|\\n)++){1,200}+"
        r"(?:[A-Za-z0-9+/=]++(?:\s|\\n)++)?(?=-----END [A-Z0-9 ]+-----)",
    ),
    _look("header", rf"(?:authorization|cookie|x-api-key){_IS}(?P<value>[^\"'\r\n\\]+)"),
    _look("header", r"\b(?:bearer|basic|digest)\s+(?P<value>[\w.~+/=-]{8,})"),
    _look("password", r"://(?P<value>[^\s\"'<>]*)@"),
    _look("token", r"skd1\.[\w.+/=~-]+|skm_[\w.+/=~-]+"),
    _look(
        "token", r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[oprsu]_[A-Za-z0-9]{20,}|xox[abeprs]-[\w-]{10,})", 0
    ),
    _look("token", r"eyJ[\w-]{5,}(?:\.[\w-]*)*", 0),
    _look("key", rf"(?P<value>1{_SYMBOL}{{3}}(?:(?P<s>[-_ ]){_SYMBOL}{{4}})(?:(?P=s){_SYMBOL}{{4}}){{5}})"),
    _look("key", rf"(?<!{_SYMBOL})1{_SYMBOL}{{27}}(?!{_SYMBOL})"),
    _look("key", rf"(?=(?P<value>(?P<chance>[1IL]){_SYMBOL}{{3}}(?:{_BETWEEN}{_SYMBOL}{{4}}){{6}}))"),
    _look("secret", rf"{_ASSIGNED}\\?\"(?P<value>(?:[^\"\\\r\n]|\\[^\"\r\n])+)"),
    _look("secret", rf"{_ASSIGNED}'(?P<value>[^'\r\n]+)"),
    _look("secret", rf"{_ASSIGNED}(?P<value>[^\s\"',;&)\]}}]+)"),
    _look("secret", rf"(?<!\w)(?:{_VARIABLES})[ \t]+(?P<value>[^\s\"',;&)\]}}]+)", 0),
    _look("secret", rf"(?<!\w){_NAMES}[ \t]+(?P<value>(?=[\w+/.~-]*\d)[\w+/.~-]{{6,}}=*)"),
)
_PLACE_LOOKS = (
    _look("email", r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]++@[\w-]+(?:\.[\w-]+)*"),
    _look("mac", r"(?:[0-9A-F]{2}[:-]){5,}[0-9A-F]{2}"),
    _look("mac", r"(?<![0-9A-F])[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4}(?![0-9A-F])"),
    _look("address", r"(?<!\w)(?=[0-9A-F:.]{0,45}::|(?:[0-9A-F]{0,4}:){5})[0-9A-F:.]*[0-9A-F:](?:%[\w.-]+)?(?!\w)"),
    _look("address", r"\d+(?:\.\d+){3,}"),
    _look("home", r"/(?:home|Users)/[^\s/\"'\\:,;)]+"),
    _look("home", r"[A-Z]:[\\/]+Users[\\/]+[^\s/\"'\\:,;)]+"),
    _look("host", rf"(?<=://){_HOST}(?:\.{_HOST})*"),
    _look("host", rf"\b(?:host|hostname|node|nodename|machine){_IS}(?P<value>[\w.-]*\w)"),
    _look("host", rf"(?<![\w.])(?:{_HOST}\.)+(?:{_USUAL})(?![\w.]*\w)"),
    _look("user", rf"\b(?:user|username|acct|login|logname){_IS}(?P<value>[\w.-]*\w)"),
)
