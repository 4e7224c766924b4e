"""Activation over HTTP: requests in, use cases called, answers out. No rule of licensing lives here."""

import time
from datetime import datetime
from uuid import UUID

from aiohttp import web

from services.activation import activate, operations
from services.activation.access import Denied
from services.activation.activate import Activated, Activation, NotActivated, Pending
from services.activation.devices import Devices, Page
from services.activation.messages import (
    ActivateBody,
    ActivatedAnswer,
    DeviceAnswer,
    DevicesAnswer,
    PendingAnswer,
    ReleasedAnswer,
    ResetAnswer,
    ValidAnswer,
)
from services.activation.public_keys import PublicKeys
from services.activation.refusals import denied_problem, refused_problem
from services.activation.release import Releasing
from services.activation.validate import Question, Validation
from shared.ledger.clock import Clock
from shared.licensing.codes import Code
from shared.licensing.model import Device, Refused
from shared.runtime.issuing import next_heartbeat_s
from shared.web.addresses import Addresses
from shared.web.answers import license_problem, reply, rfc3339
from shared.web.bodies import parse_timestamp
from shared.web.problems import ProblemError, problem
from shared.web.routes import Route
from shared.web.texts import Fault

PENDING_RETRY_S = 30
_SUCCESS = ReleasedAnswer(success=True)


class Handlers:
    """One method for each route; `routes` lists them."""

    def __init__(
        self,
        *,
        activation: Activation,
        validation: Validation,
        releasing: Releasing,
        devices: Devices,
        public_keys: PublicKeys,
        clock: Clock,
        address_of: Addresses,
    ) -> None:
        self._activation = activation
        self._validation = validation
        self._releasing = releasing
        self._devices = devices
        self._public_keys = public_keys
        self._clock = clock
        self._address_of = address_of

    def routes(self) -> list[Route]:
        return [
            Route(operations.ACTIVATE, self.activate),
            Route(operations.VALIDATE, self.validate),
            Route(operations.DEACTIVATE, self.deactivate),
            Route(operations.API_DEACTIVATE, self.deactivate),
            Route(operations.RESET, self.reset),
            Route(operations.LIST_DEVICES, self.list_devices),
            Route(operations.DELETE_DEVICE, self.delete_device),
            Route(operations.ACCOUNT_KEYS, self.account_keys),
            Route(operations.ALL_KEYS, self.all_keys),
        ]

    async def activate(self, request: web.Request) -> web.Response:
        self._activation.check_room()
        body = await operations.ACTIVATE_BODY.read(request)
        outcome = await self._activation(_activation_request(body), self._clock.now_s(), self._address_of(request))
        if isinstance(outcome, NotActivated):
            return _not_activated(request, outcome)
        if isinstance(outcome, Pending):
            answer = PendingAnswer(device_id=outcome.device.id, state=outcome.device.state, retry_after=PENDING_RETRY_S)
            return reply(answer, 202)
        return reply(_activated(outcome), 201 if outcome.created else 200)

    async def validate(self, request: web.Request) -> web.Response:
        try:
            body = await operations.VALIDATE_BODY.read(request)
        except ProblemError as error:
            error.members["valid"] = False
            raise
        validity = await self._validation(
            Question(key=body.key, fingerprint=body.fingerprint, version=body.version, entitlements=body.entitlements),
            self._address_of(request),
        )
        if validity.denied is not None:
            return denied_problem(request, validity.denied, valid=False)
        if validity.refused is not None:
            return problem(request, validity.refused, valid=False, limit=validity.limit, used=validity.used)
        return reply(
            ValidAnswer(
                valid=validity.valid,
                code=validity.code,
                full=validity.full,
                limit=validity.limit,
                used=validity.used,
                overage=validity.overage,
                warning=validity.warning,
            )
        )

    async def deactivate(self, request: web.Request) -> web.Response:
        body = await operations.RELEASE_BODY.read(request)
        address = self._address_of(request)
        outcome = await self._releasing.deactivate(body.license_key, body.device_id, body.generation, address)
        return _refused(request, outcome) if isinstance(outcome, Denied | Refused) else reply(_SUCCESS)

    async def reset(self, request: web.Request) -> web.Response:
        body = await operations.RELEASE_BODY.read(request)
        address = self._address_of(request)
        outcome = await self._releasing.reset(body.license_key, body.device_id, body.generation, address)
        if isinstance(outcome, Denied | Refused):
            return _refused(request, outcome)
        return reply(ResetAnswer(activated=False, last_reset_time=rfc3339(outcome)))

    async def list_devices(self, request: web.Request) -> web.Response:
        key = _authorized_key(request)
        query = operations.DEVICES_QUERY.read(request)
        page = await self._devices(
            key, self._address_of(request), states=query.state, after=query.after, limit=query.limit
        )
        return denied_problem(request, page) if isinstance(page, Denied) else reply(_page(page))

    async def delete_device(self, request: web.Request) -> web.Response:
        key = _authorized_key(request)
        outcome = await self._releasing.deactivate(
            key, request.match_info["device_id"], None, self._address_of(request)
        )
        return _refused(request, outcome) if isinstance(outcome, Denied | Refused) else reply(_SUCCESS)

    async def account_keys(self, request: web.Request) -> web.Response:
        try:
            account_id = UUID(request.match_info["account_id"])
        except ValueError:
            return problem(request, Code.NOT_FOUND)
        keys = await self._public_keys.of_account(account_id)
        return problem(request, Code.NOT_FOUND) if keys is None else reply(keys)

    async def all_keys(self, _request: web.Request) -> web.Response:
        return reply(await self._public_keys.of_all())


def _activation_request(body: ActivateBody) -> activate.Request:
    if (body.token is None) == (body.license_key is None):
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.KEY_OR_TOKEN)
    timestamp_s = parse_timestamp(body.timestamp)
    if timestamp_s is None:
        raise ProblemError(Code.REQUEST_INVALID, fault=Fault.FIELD_VALUE, field="timestamp")
    return activate.Request(
        token=body.token,
        license_key=body.license_key,
        fingerprint=body.fingerprint,
        name=body.name or "",
        timestamp_s=timestamp_s,
        nonce=body.nonce,
        version=body.version,
        entitlements=body.entitlements,
    )


def _activated(outcome: Activated) -> ActivatedAnswer:
    device, license = outcome.device, outcome.license
    return ActivatedAnswer(
        device_id=device.id,
        state=device.state,
        generation=device.generation,
        lease=outcome.lease.text,
        valid_until=rfc3339(outcome.lease.valid_until_s),
        lease_expires_at=_time(device.lease_expires_at),
        device_token=outcome.device_token,
        next_heartbeat_in=next_heartbeat_s(license.terms.heartbeat_interval_s),
        limit=license.seats_limit,
        used=license.seats_used,
        expires_at=_time(license.expires_at),
        overage=license.seats_used > license.seats_limit,
        trial=license.terms.trial,
        entitlements=license.terms.entitlements or None,
        warning=outcome.warning,
    )


def _not_activated(request: web.Request, outcome: NotActivated) -> web.Response:
    if outcome.denied is not None:
        return denied_problem(request, outcome.denied)
    skewed = outcome.code is Code.TIMESTAMP_SKEWED
    server_time = rfc3339(time.time()) if skewed else None
    return license_problem(
        request,
        outcome.code,
        outcome.license,
        serverTime=server_time,
        retryAfter=outcome.retry_after_s,
        holders=outcome.holders,
    )


def _refused(request: web.Request, outcome: Denied | Refused) -> web.Response:
    return denied_problem(request, outcome) if isinstance(outcome, Denied) else refused_problem(request, outcome)


def _authorized_key(request: web.Request) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "license" or not key.strip():
        raise ProblemError(Code.LICENSE_KEY_INVALID, fault=Fault.KEY_NOT_SENT)
    return key.strip()


def _page(page: Page) -> DevicesAnswer:
    return DevicesAnswer(
        limit=page.license.seats_limit,
        used=page.license.seats_used,
        devices=[_device(device) for device in page.devices],
        next=page.devices[-1].id if page.more else None,
    )


def _device(device: Device) -> DeviceAnswer:
    return DeviceAnswer(
        device_id=device.id,
        name=device.name,
        fingerprint=device.fingerprint,
        state=device.state,
        generation=device.generation,
        activated_at=_time(device.activated_at),
        last_contact_at=_time(device.last_contact_at),
        lease_expires_at=_time(device.lease_expires_at),
        ended_at=_time(device.ended_at),
        ended_reason=device.ended_reason,
    )


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment is not None else None
