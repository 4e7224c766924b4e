"""Which language to answer in.

Rules: a pure function of the Accept-Language header; what cannot be parsed counts as not preferred.
"""

from functools import lru_cache


@lru_cache(maxsize=256)
def preferred_language(accept_language: str) -> str:
    """`zh` when the header (RFC 9110, 12.5.4) weighs any Chinese above any English, else `en`."""
    weights = {"zh": 0.0, "en": 0.0}
    for item in accept_language[:256].split(","):
        tag, _, parameter = item.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in weights:
            weights[language] = max(weights[language], _weight(parameter))
    if weights["zh"] == weights["en"] > 0:
        return "zh" if accept_language.lower().find("zh") < accept_language.lower().find("en") else "en"
    return "zh" if weights["zh"] > weights["en"] else "en"


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
