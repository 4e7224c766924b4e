"""`python -m shared.facts.document`: writes docs/facts.md from the code that makes and reads facts."""

from pathlib import Path
from typing import Any

import msgspec

from shared.facts.topology import DELIVERY_LIMIT, EXCHANGE, SUBSCRIBERS
from shared.licensing.facts import SCHEMA, Fact
from shared.licensing.model import EventKind

PATH = Path("docs/facts.md")

_HEAD = f"""# Facts

Written by `python -m shared.facts.document`; a test holds it against the code.

A fact is one committed change of one license, told to whoever wants to know. It is immutable and states absolute
values, so that applying it twice, or late, does no harm: `version` rises by one with each fact of a license.

- **Delivery.** At least once. While nothing fails, a license's facts arrive in the order of their commits; after a
  failure, or with several consumers on one queue, they may not: compare versions, or keep an inbox.
- **Messages.** The topic exchange `{EXCHANGE}` carries facts as lines of JSON, persistent, under the routing keys
  `fact.node_locked`, `fact.floating` (the kind of license) and `fact.other` (facts of a later release). The headers
  hold `schema` and `facts` (how many), and `traceparent` where there is one.
- **Failures.** A message that a consumer cannot handle is tried {DELIVERY_LIMIT} times, and then waits in its dead
  letters.
- **Versions of the schema.** This is schema {SCHEMA}. Members may be added without a new number: readers ignore what
  they do not know. A change that a reader must understand raises `schema`; readers send facts of a higher one to their
  dead letters, to be replayed after they were upgraded. Consumers are upgraded before producers.
"""


def document() -> str:
    """The whole page."""
    _, components = msgspec.json.schema_components([Fact], ref_template="{name}")
    parts = [_HEAD, "## Types\n", *(f"- `{kind.value}`" for kind in EventKind), ""]
    parts += ["## Queues\n", "| queue | routing keys |", "| --- | --- |"]
    parts += [f"| `{one.queue}` | {', '.join(f'`{key}`' for key in one.keys)} |" for one in SUBSCRIBERS]
    for name in ("Fact", "Terms", "Device"):
        parts += ["", f"## {name}\n", *_members(components[name], components)]
    return "\n".join(parts) + "\n"


def _members(component: dict[str, Any], components: dict[str, Any]) -> list[str]:
    required = set(component.get("required", ()))
    rows = [
        f"| `{name}` | {_type(described, components)} | {'yes' if name in required else 'no'} |"
        for name, described in component["properties"].items()
    ]
    return ["| member | type | required |", "| --- | --- | --- |", *rows]


def _type(described: dict[str, Any], components: dict[str, Any]) -> str:
    if "anyOf" in described:
        return " or ".join(_type(one, components) for one in described["anyOf"])
    if "enum" in described:
        return " or ".join(f"`{value}`" for value in described["enum"])
    if "$ref" in described:
        name = str(described["$ref"])
        return _type(components[name], components) if "enum" in components[name] else name
    return str(described.get("format") or described.get("contentEncoding") or described["type"])


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
