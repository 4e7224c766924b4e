"""Secrets are taken out of what is logged, wherever they stand in it.

Rules: a value under a telling name is masked whole; any text is searched for what looks like a secret (a license key,
a token of ours, a JWS, a password in a URL). Rather too much is masked than too little. What is not plain data is
logged as its redacted `repr`. Never raises.
"""

import math
import re
from collections.abc import Mapping

MASK = "***"
_MAX_DEPTH = 8

_TELLING = re.compile(r"key|token|secret|passw|pwd|dsn|authorization|cookie|credential", re.IGNORECASE)
_LICENSE_KEY = re.compile(r"(?<![0-9A-Za-z])1[0-9A-Za-z]{3}(?:[-_ ]?[0-9A-Za-z]{4}){6}(?![0-9A-Za-z])")
_OWN_TOKEN = re.compile(r"\b(skd1\.|skm_)[\w.+/=~-]+")
_JWS = re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*)*")
_USERINFO = re.compile(r"(://[^\s/:@]*):[^\s\"'<>]*@")
_SCHEME = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.IGNORECASE)
_HEADER = re.compile(r"(authorization[\"']?\s*[:=]\s*[\"']?)[^\"'\r\n]+", re.IGNORECASE)
_NAMES = r"(?:password|passwd|pwd|secret|token|(?:license|api|device)_?(?:key|token)|dsn)"
_ASSIGNED = re.compile(rf"\b({_NAMES}=)(?:\"[^\"]*\"|'[^']*'|[^\s,;&)]+)", re.IGNORECASE)
_QUOTED = re.compile(rf"([\"']{_NAMES}[\"']\s*:\s*)(?:\"[^\"]*\"|'[^']*')", re.IGNORECASE)


def redact_text(text: str) -> str:
    """The text with everything that looks like a secret masked."""
    text = _USERINFO.sub(rf"\1:{MASK}@", text)
    text = _HEADER.sub(rf"\1{MASK}", text)
    text = _SCHEME.sub(rf"\1 {MASK}", text)
    text = _ASSIGNED.sub(rf"\1{MASK}", text)
    text = _QUOTED.sub(rf'\1"{MASK}"', text)
    text = _OWN_TOKEN.sub(rf"\1{MASK}", text)
    return _LICENSE_KEY.sub(MASK, _JWS.sub(MASK, text))


def redact(value: object, name: str = "", depth: int = 0) -> object:
    """Plain data (as JSON has it) equal to `value` but for its secrets. `name` is that under which it stands."""
    if value is None or isinstance(value, bool):
        return value
    if name and _TELLING.search(name):
        return MASK
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return _redact_other(value, depth)


def _redact_other(value: object, depth: int) -> object:
    if depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {redact_text(str(name)): redact(item, str(name), depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(item, "", depth + 1) for item in value]
    try:
        return redact_text(repr(value))
    except Exception:
        return f"<{type(value).__name__}>"
