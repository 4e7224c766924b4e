"""What is known of the machine: each fact with how long it lasts. Pure.

A fact's value is for hashing alone; it shows in no repr and leaves the machine in no form but its part in a SHA-256.
"""

import re
from enum import StrEnum

import msgspec


class Stability(StrEnum):
    """How long a fact stays what it is; the value is the sentence for people."""

    HARDWARE = "lasts as long as this hardware"
    INSTALLATION = "lasts until the system is installed anew"
    INSTANCE = "lasts as long as this cloud instance"
    VOLUME = "lasts as long as the state folder is kept"
    CONTAINER = "lasts as long as this container"
    SETTING = "lasts as long as the variable is set"


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    stability: Stability
    value: str

    def __repr__(self) -> str:
        return f"Fact({self.name}, {self.stability})"

    __str__ = __repr__


class Weakness(StrEnum):
    """What to know of a fingerprint; the value is the sentence for people."""

    CLONES_LOOK_ALIKE = "a copy of this system has the same fingerprint: give each copy a machine id of its own"
    LASTS_WITH_THE_FOLDER = "it lasts only with the state folder: keep $SEATKEEPER_HOME on a volume"
    LASTS_WITH_THE_CONTAINER = (
        "it lasts only with this container: keep $SEATKEEPER_HOME on a volume that can be written"
    )


def weakness(facts: list[Fact]) -> Weakness | None:
    stabilities = {fact.stability for fact in facts}
    if Stability.CONTAINER in stabilities:
        return Weakness.LASTS_WITH_THE_CONTAINER
    if Stability.VOLUME in stabilities:
        return Weakness.LASTS_WITH_THE_FOLDER
    return Weakness.CLONES_LOOK_ALIKE if stabilities == {Stability.INSTALLATION} else None


def known(name: str, stability: Stability, value: str | None) -> list[Fact]:
    """The fact, or none where the value is missing or is what makers write who write nothing."""
    cleaned = (value or "").strip(" \t\r\n\0")
    if _is_placeholder(cleaned):
        return []
    return [Fact(name=name, stability=stability, value=cleaned)]


_PLACEHOLDERS = {
    "none",
    "unknown",
    "uninitialized",
    "default string",
    "not applicable",
    "not specified",
    "system serial number",
    "to be filled by o.e.m.",
    "0123456789",
    "123456789",
    "1234567890",
    "03000200040005000006000700080009",
    "00020003000400050006000700080009",
}


def _is_placeholder(value: str) -> bool:
    bare = re.sub(r"[-:.\s]", "", value).lower()
    return len(set(bare)) < 2 or value.lower() in _PLACEHOLDERS or bare in _PLACEHOLDERS
