"""Writes `docs/facts.md` from the code that makes and reads facts: `python -m shared.facts.document`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from shared.facts import codec, topology
from shared.facts.handling import Pace
from shared.facts.meanings import EVENTS, MEMBERS
from shared.licensing.facts import SCHEMA, Fact
from shared.licensing.model import EventKind, Kind

PATH = Path(__file__).resolve().parents[2] / "docs" / "facts.md"

_TEXT = """\
# Facts

A fact tells of one committed change of one license. It never changes, and states absolute values: taking it in twice,
or late, does no harm. Facts leave the ledger through its outbox and reach every consumer **at least once**. This page
is written by `python -m shared.facts.document`.

## On the wire

| | |
| --- | --- |
| exchange | `{exchange}` (topic, durable) |
| routing key | by the kind of license: {keys}; `{other}` where the sender could not tell |
| body | `{content_type}`: one fact a line, JSON in UTF-8; at most {facts} facts and {kib} KiB, or one fact |
| properties | `message_id`, `timestamp`, persistent |
| headers | `schema` (the sender's), `facts` (how many), and `traceparent`, `tracestate` where there is a trace |

| consumer's queue | bound to | its dead letters |
| --- | --- | --- |
{queues}

All facts of a license travel under one routing key, and are put into its queues in the order of their versions. A
redelivery, or several consumers of one queue, may change that order: whoever keeps a copy compares `version`, whoever
has effects that must happen once keeps an inbox by (`accountId`, `licenseId`, `version`).

A message that fails is tried {tries} times, with growing delays; a message that more than {limit} consumers died of is
not delivered again. Both end in the dead letters, where `dead-letters list`, `replay` and `drop` reach them.

## Versions of the schema

This is schema **{schema}**.

- A member may be added, and a new `type` may appear, at any time. **Ignore members and types that you do not know.**
- Everything else (a member removed or with another meaning or type, a new value of `status`, `reason`, `state`, `kind`
  or `approval`) is a new schema, with a higher number. Do not guess at a fact whose `schema` is higher than those you
  know: it goes to the dead letters, without holding up others, and is replayed once you are newer.
- So **consumers are released before senders**. A consumer reads every schema from 1 on: facts rest in outboxes, queues
  and dead letters for as long as it takes.

## Events

| `type` | what it tells |
| --- | --- |
{events}

## Members

Times are RFC 3339 in UTC; names that end in `S` are whole seconds.

| member | type | what it holds |
| --- | --- | --- |
{members}
{structures}
"""


def document() -> str:
    """The whole page."""
    _, schemas = msgspec.json.schema_components([Fact], ref_template="{name}")
    return _TEXT.format(
        exchange=topology.EXCHANGE,
        keys=_words([topology.KEY_PREFIX + kind for kind in Kind]),
        other=topology.OTHER,
        content_type=codec.CONTENT_TYPE,
        facts=codec.MESSAGE_FACTS,
        kib=codec.MESSAGE_BYTES // 1024,
        queues=_rows((f"`{one.queue}`", _words(one.keys), f"`{one.dead_queue}`") for one in topology.SUBSCRIBERS),
        tries=Pace().tries,
        limit=topology.DELIVERY_LIMIT,
        schema=SCHEMA,
        events=_rows((f"`{kind}`", EVENTS[kind]) for kind in EventKind),
        members=_rows((name, kind, MEMBERS[name.strip("`")]) for name, kind in _members("Fact", schemas)),
        structures="".join(_structure(name, schemas) for name in ("Terms", "Device")),
    )


def _structure(name: str, schemas: Mapping[str, Any]) -> str:
    return f"\n### {name}\n\n| member | type |\n| --- | --- |\n{_rows(_members(name, schemas))}\n"


def _members(name: str, schemas: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(f"`{member}`", _type(one, schemas)) for member, one in schemas[name]["properties"].items()]


def _type(one: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "anyOf" in one:
        return " or ".join(_type(choice, schemas) for choice in one["anyOf"])
    if "enum" in one:
        return _words(one["enum"])
    if "$ref" in one:
        named = schemas[one["$ref"]]
        return _type(named, schemas) if "enum" in named else f"[{one['$ref']}](#{one['$ref'].lower()})"
    return str(one.get("format") or one.get("contentEncoding") or one["type"])


def _rows(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _words(keys: Iterable[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
