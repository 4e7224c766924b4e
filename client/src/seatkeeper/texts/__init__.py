"""What users read, by key and language: the states and errors of the SDK, the words of the command.

Rules: every language has every key, with the same values to fill in (a test holds this). A text says what to do next,
in one or two sentences, and holds no secret. Language is decided by `language_of`, as gettext does.
"""

from collections.abc import Mapping
from typing import Any, Self

from seatkeeper.texts import (
    bundle_en,
    bundle_zh,
    command_en,
    command_zh,
    doctor_en,
    doctor_zh,
    errors_en,
    errors_zh,
    help_en,
    help_zh,
    states_en,
    states_zh,
)

LANGUAGES = ("en", "zh")
TABLES: dict[str, dict[str, str]] = {
    "en": states_en.TEXTS | errors_en.TEXTS | command_en.TEXTS | help_en.TEXTS | doctor_en.TEXTS | bundle_en.TEXTS,
    "zh": states_zh.TEXTS | errors_zh.TEXTS | command_zh.TEXTS | help_zh.TEXTS | doctor_zh.TEXTS | bundle_zh.TEXTS,
}
_UNTRANSLATED = ("", "C", "POSIX")


class Sentence(str):
    """A text in English that can be said in every language, as errors carry it: `Sentence("error.dns", host=host)`."""

    __slots__ = ("_key", "_values")
    _key: str
    _values: dict[str, Any]

    def __new__(cls, key: str, **values: Any) -> Self:
        made = super().__new__(cls, text(key, **values))
        made._key, made._values = key, values
        return made

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        return (self._key,), self._values

    def told(self, language: str) -> str:
        return text(self._key, language, **self._values)


def text(key: str, language: str = "en", **values: Any) -> str:
    """The text of a key, with its values filled in: sentences among them in the same language. A language that is not
    here is answered in English."""
    said = {name: value.told(language) if isinstance(value, Sentence) else value for name, value in values.items()}
    return TABLES.get(language, TABLES["en"])[key].format_map(said)


def language_of(environ: Mapping[str, str], system: str | None = None) -> str:
    """`zh` or `en`: SEATKEEPER_LANGUAGE, else LC_ALL, LC_MESSAGES or LANG, before which LANGUAGE goes unless that is C.

    `system` is what the system says of itself where no variable does, as on Windows: `locale.getlocale()[0]`.
    """
    if chosen := environ.get("SEATKEEPER_LANGUAGE"):
        return _known(chosen) or "en"
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), system or "")
    if locale.partition(".")[0] in _UNTRANSLATED:
        return "en"
    wished = [*environ.get("LANGUAGE", "").split(":"), locale]
    return next((found for found in map(_known, wished) if found), "en")


def _known(locale: str) -> str | None:
    lowered = locale.lower()
    return "zh" if lowered.startswith(("zh", "chinese")) else "en" if lowered.startswith("en") else None
