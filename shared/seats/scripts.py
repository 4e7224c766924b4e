"""One Lua file for each verb, read once and called by its digest. Before each stands how values are packed."""

from hashlib import sha1
from importlib.resources import files

VERBS = ("contact", "standing", "apply", "watermark", "discard", "sweep", "turn", "limit")

_FOLDER = files("shared.seats") / "lua"
_VALUES = (_FOLDER / "values.lua").read_bytes()
SOURCES = {verb: _VALUES + (_FOLDER / f"{verb}.lua").read_bytes() for verb in VERBS}
DIGESTS = {verb: sha1(source, usedforsecurity=False).hexdigest() for verb, source in SOURCES.items()}
"""By these Redis names the scripts that it was given."""
