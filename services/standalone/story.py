"""The story that `make demo` plays over HTTP: every step checks what it shows, and a wrong answer ends it."""

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
import msgspec

from services.standalone.demo_account import Demo
from shared.licensing.facts import Fact

SHOWN = (
    *("valid", "state", "generation", "full", "code", "detail", "reason", "success", "limit", "used"),
    *("leaseExpiresAt", "validUntil", "nextHeartbeatIn"),
)


class StoryError(Exception):
    """A step was answered in another way than the story tells."""


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What the story needs besides HTTP: to move the simulated clock to a day, to let the reaper pass, and all facts
    that were delivered so far."""

    move_clock_to_day: Callable[[int], Awaitable[None]]
    let_reaper_pass: Callable[[], Awaitable[None]]
    facts: Callable[[], Awaitable[Sequence[Fact]]]


class Story:
    def __init__(self, demo: Demo, stage: Stage, say: Callable[[str], None]) -> None:
        self._demo = demo
        self._stage = stage
        self._say = say
        self._told = 0

    async def play(self) -> None:
        """Play every act. Raises `StoryError` at the first answer that is not as told."""
        async with aiohttp.ClientSession(self._demo.url) as self._http:
            tokens = await self._activate()
            await self._keep(tokens["laptop"])
            tokens["tablet"] = await self._give_back()
            tokens |= await self._float()
            await self._fall_silent(tokens)
        self._say("\nEverything was answered as it should be.")

    async def _activate(self) -> dict[str, str]:
        await self._act("Three seats: each device activates once, however often it asks")
        tokens = {}
        for device in ("laptop", "desktop", "phone"):
            tokens[device] = (await self._ask(201, "/v1/activate", self._seat(device)))["deviceToken"]
        await self._ask(200, "/v1/activate", self._seat("laptop"), "the same again: the same seat")
        await self._ask(403, "/v1/activate", self._seat("tablet"), "one device too many")
        return tokens

    async def _keep(self, laptop: str) -> None:
        await self._act("A heartbeat keeps the seat, and anyone can validate the key")
        await self._ask(200, "/v1/heartbeat", {"deviceToken": laptop, "nonce": "n-1"})
        await self._ask(200, "/v1/validate", {"key": self._demo.license_key, "fingerprint": "laptop"})
        await self._ask(403, "/v1/validate", {"key": self._demo.license_key, "fingerprint": "tablet"}, "no seat left")
        mistyped = self._demo.license_key[:-1] + ("A" if self._demo.license_key[-1] != "A" else "B")
        await self._ask(401, "/v1/validate", {"key": mistyped}, "mistyped: told without a look-up")

    async def _give_back(self) -> str:
        await self._act("A seat given back is free at once")
        desktop = (await self._ask(200, "/v1/activate", self._seat("desktop")))["deviceId"]
        release = {"deviceId": desktop, "licenseKey": self._demo.license_key}
        await self._ask(200, "/api/deactivate", release)
        await self._ask(200, "/api/deactivate", release, "repeated: still success")
        by_token = {"token": self._demo.activation_token, "fingerprint": "tablet", "timestamp": int(time.time())}
        tablet: str = (await self._ask(201, "/v1/activate", by_token))["deviceToken"]
        return tablet

    async def _float(self) -> dict[str, str]:
        await self._act("Two floating seats go from hand to hand")
        tokens = {}
        for device in ("render-1", "render-2"):
            tokens[device] = (await self._ask(201, "/v1/activate", self._floating_seat(device)))["deviceToken"]
        await self._ask(403, "/v1/activate", self._floating_seat("render-3"), "none free: told who holds them")
        await self._ask(200, "/v1/heartbeat", {"deviceToken": tokens["render-1"], "leave": True}, "render-1 leaves")
        tokens["render-3"] = (await self._ask(201, "/v1/activate", self._floating_seat("render-3")))["deviceToken"]
        beats = [{"deviceToken": tokens[device]} for device in ("render-2", "render-3")]
        await self._ask(200, "/v1/heartbeats", {"heartbeats": beats}, "a gateway speaks for many")
        return tokens

    async def _fall_silent(self, tokens: dict[str, str]) -> None:
        await self._act("The phone falls silent, the others are heard now and then (on a simulated clock)")
        for day in (30, 60):
            await self._stage.move_clock_to_day(day)
            self._say(f"  day +{day}")
            await self._hear(tokens, "laptop", "tablet")
        await self._stage.let_reaper_pass()
        await self._ask(200, "/v1/heartbeat", {"deviceToken": tokens["render-2"]}, "late, but a floating seat is free")
        await self._pass_on_day(84, expected="lease.expiring", of="phone")
        await self._hear(tokens, "laptop", "tablet")
        await self._pass_on_day(92, expected="device.released", of="phone")
        await self._ask(410, "/v1/heartbeat", {"deviceToken": tokens["phone"]}, "the phone's seat is gone, and why")
        await self._hear(tokens, "laptop", "tablet")
        await self._ask(201, "/v1/activate", self._seat("desktop"), "the freed seat serves another device")
        await self._tell_facts()

    async def _hear(self, tokens: dict[str, str], *devices: str) -> None:
        for device in devices:
            await self._ask(200, "/v1/heartbeat", {"deviceToken": tokens[device]}, device)

    async def _pass_on_day(self, day: int, *, expected: str, of: str) -> None:
        await self._stage.move_clock_to_day(day)
        self._say(f"  day +{day}: the reaper passes")
        await self._stage.let_reaper_pass()
        told = await self._tell_facts()
        if not any(fact.type == expected and fact.device and fact.device.fingerprint == of for fact in told):
            raise StoryError(f"day +{day}: no fact {expected} of the {of}")

    async def _ask(self, status: int, path: str, body: dict[str, Any], remark: str = "") -> dict[str, Any]:
        async with self._http.post(path, json=body) as response:
            answer: dict[str, Any] = await response.json(content_type=None)
        self._say(f"  POST {path} {_about(body)}{'   # ' + remark if remark else ''}")
        self._say(f"    {response.status} {_brief(answer)}")
        if response.status != status:
            raise StoryError(f"POST {path}: expected {status}, got {response.status}")
        return answer

    def _seat(self, device: str) -> dict[str, Any]:
        return {"licenseKey": self._demo.license_key, "fingerprint": device, "timestamp": int(time.time())}

    def _floating_seat(self, device: str) -> dict[str, Any]:
        return self._seat(device) | {"licenseKey": self._demo.floating_license_key, "name": device}

    async def _tell_facts(self) -> list[Fact]:
        told = list(await self._stage.facts())[self._told :]
        self._told += len(told)
        for fact in told:
            device = f" {fact.device.fingerprint}" if fact.device else ""
            reason = f" ({fact.reason})" if fact.reason else ""
            self._say(f"    fact {fact.type}{device}{reason}, seats {fact.seats_used} of {fact.seats_limit}")
        return told

    async def _act(self, title: str) -> None:
        await self._tell_facts()
        self._say(f"\n{title}")


def _about(body: dict[str, Any]) -> str:
    """Which device a request is about; keys and tokens are long, and secrets."""
    shown = {name: body[name] for name in ("fingerprint", "nonce") if name in body}
    by = next((name for name in ("licenseKey", "key", "token", "deviceToken") if name in body), None)
    return " ".join([*(f"{name}={value}" for name, value in shown.items()), *([f"{by}=…"] if by else [])])


def _brief(answer: dict[str, Any]) -> str:
    said = {name: answer[name] for name in SHOWN if name in answer}
    signed = {name: "(signed)" for name in ("lease",) if name in answer}
    lists = {
        name: " ".join(str(one[member]) for one in answer[name])
        for name, member in (("holders", "name"), ("answers", "status"))
        if name in answer
    }
    return ", ".join(f"{name}: {_json(value)}" for name, value in {**said, **signed, **lists}.items())


def _json(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
