"""Heartbeats of a fleet: each has its own answer, whatever becomes of the others.

Redis is asked once for all of them. Who has a plain yes by that is answered at once, without a task of its own; the
others go on as each would alone, all at the same time.
"""

import asyncio
import secrets
from collections.abc import Sequence

import msgspec
import structlog

from services.heartbeat.heartbeat import Heard, Heartbeat, Lost
from services.heartbeat.messages import FleetItem
from services.heartbeat.wire import beat_of, members, told
from shared.batching import OverloadedError
from shared.ledger.clock import Clock
from shared.ledger.connections import UnavailableError
from shared.ledger.transaction import OutcomeUnknownError
from shared.licensing.codes import Code
from shared.web.bodies import decode_json
from shared.web.limits import FailedAuthentications, ThrottledError
from shared.web.problems import ProblemError, document

_one = msgspec.json.Decoder(FleetItem)
_all = msgspec.json.Decoder(list[FleetItem])
_members_of_all = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_log = structlog.stdlib.get_logger(__name__)


class _Item(msgspec.Struct, kw_only=True):
    """One of a fleet. `heard` is None where nothing was, as the token is none of ours."""

    token: str = ""
    nonce: str | None = None
    heard: Heard | None = None
    answer: object = None


class Fleet:
    """Call it with the items as they came: what each would have been answered alone, with the status as a member."""

    def __init__(self, heartbeat: Heartbeat, clock: Clock, failures: FailedAuthentications) -> None:
        self._heartbeat = heartbeat
        self._clock = clock
        self._failures = failures

    async def __call__(self, raw: Sequence[msgspec.Raw], language: str, address: bytes) -> list[object]:
        items = [self._item(body, language) for body in _decoded(raw)]
        await self._answer_together([(item, item.heard) for item in items if item.heard is not None], language)
        await asyncio.gather(*(self._answer(item, language, address) for item in items if item.answer is None))
        return [item.answer for item in items]

    def _item(self, body: FleetItem | ProblemError, language: str) -> _Item:
        try:
            if isinstance(body, ProblemError):
                raise body
            token = body.device_token
            return _Item(token=token, nonce=body.nonce, heard=self._heartbeat.hear(beat_of(body, token)))
        except Exception as error:
            return _Item(answer=_failure(error, language))

    async def _answer_together(self, items: Sequence[tuple[_Item, Heard]], language: str) -> None:
        """Those who have a plain yes."""
        try:
            await self._heartbeat.ask([heard for _, heard in items])
            now_s = self._clock.now_s()
        except UnavailableError as error:  # the time was never read
            for item, _ in items:
                item.answer = _failure(error, language)
            return
        for item, heard in items:
            if (alive := self._heartbeat.plain(heard)) is not None:
                item.answer = told(alive, item.token, item.nonce, now_s, status=200)

    async def _answer(self, item: _Item, language: str, address: bytes) -> None:
        try:
            item.answer = await self._answered(item, language, address)
        except Exception as error:
            item.answer = _failure(error, language)

    async def _answered(self, item: _Item, language: str, address: bytes) -> object:
        if item.heard is None:
            await self._failures.seen(address)
            return document(language, Code.TOKEN_INVALID)
        outcome = await self._heartbeat.decide(item.heard)
        now_s = self._clock.now_s()
        if isinstance(outcome, Lost):
            return document(language, outcome.code, **members(outcome, item.token, item.nonce, now_s))
        return told(outcome, item.token, item.nonce, now_s, status=200)


def _decoded(raw: Sequence[msgspec.Raw]) -> Sequence[FleetItem | ProblemError]:
    """All at once where that can be; else one by one, so that a bad one fails alone."""
    data = b"[" + b",".join(raw) + b"]"
    try:
        bodies = _all.decode(data)
        members = sum(map(len, _members_of_all.decode(data)))
    except msgspec.DecodeError:
        return [_decoded_alone(bytes(item)) for item in raw]
    colons = data.count(b":")
    if colons == members or (b"\\" not in data and colons == members + sum(map(_colons, bodies))):
        return bodies
    return [_decoded_alone(bytes(item)) for item in raw]  # something stands there twice, or colons in what is unknown


def _colons(body: FleetItem) -> int:
    """Those in its texts. Any other colon is that of a member."""
    return f"{body.device_token}{body.valid_until}{body.nonce}{body.version}".count(":")


def _decoded_alone(raw: bytes) -> FleetItem | ProblemError:
    try:
        return decode_json(raw, _one)
    except ProblemError as error:
        return error


def _failure(error: Exception, language: str) -> dict[str, object]:
    """What `endpoint` would have answered."""
    if isinstance(error, ProblemError):
        return document(language, error.code, fault=error.fault, **error.members)
    if isinstance(error, UnavailableError | OverloadedError):
        return document(language, Code.OVERLOADED)
    if isinstance(error, OutcomeUnknownError):
        return document(language, Code.OUTCOME_UNKNOWN)
    if isinstance(error, ThrottledError):
        return document(language, Code.TOO_MANY_REQUESTS, fault=error.fault, retryAfter=error.retry_after_s)
    failure_id = secrets.token_hex(8)
    _log.error("heartbeat failed", id=failure_id, exc_info=error)
    return document(language, Code.INTERNAL, id=failure_id)
