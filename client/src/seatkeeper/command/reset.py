"""`reset`: puts this machine's license right from the ground up, step by step.

Rules:
- Nothing is deleted: the state of the license is moved into the backup, with its owner and rights.
- A step that fails before the server's record was reset undoes those before it, and all is as it was. After that
  nothing can be undone: what is left to do is said as commands.
- The unit's own user may be another: with a unit nothing is written into its folder.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from seatkeeper import private_files
from seatkeeper.api import Api
from seatkeeper.cache import Kept
from seatkeeper.command import units
from seatkeeper.command.activation import NEEDS, held_seat
from seatkeeper.command.device import ThisDevice
from seatkeeper.command.devices import with_key
from seatkeeper.command.failures import CommandError, ExitCode, failure_of
from seatkeeper.command.session import Session
from seatkeeper.errors import Refused
from seatkeeper.paths import config_file
from seatkeeper.texts import text

VERIFY_S = 30.0
LOOK_S = 0.5


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """`command` is how a person does the same by hand."""

    name: str
    do: Callable[[], Awaitable[None]]
    undo: Callable[[], Awaitable[None]] | None = None
    command: str = "seatkeeper reset"


async def reset(
    session: Session,
    unit: Annotated[str | None, typer.Option(metavar="UNIT", help="option.unit")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="option.yes")] = False,
) -> int:
    session.options["unit"] = unit
    settings = with_key(session, *NEEDS)
    here = ThisDevice(settings)
    async with session.api(settings) as api:
        work = _Reset(session, here, api, settings.unit)
        named = [work.said(step) for step in work.steps]
        session.confirm("prompt.reset", yes=yes, steps=", ".join(named))
        return await work.run()


class _Reset:
    def __init__(self, session: Session, here: ThisDevice, api: Api, unit: str | None) -> None:
        self._session = session
        self._here = here
        self._api = api
        self._unit = unit
        self._backup = here.directory / f"backup-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._kept = here.kept()
        self._reset_at: datetime | None = None
        self.steps = self._planned(unit)

    def said(self, step: Step) -> str:
        return text(f"step.{step.name}", self._session.language, unit=self._unit)

    async def run(self) -> int:
        for number, step in enumerate(self.steps):
            try:
                with self._session.progress("progress.step", step=self.said(step)):
                    await step.do()
            except Exception as error:
                return await self._stopped(number, error)
        self._show(len(self.steps))
        self._session.note("reset.done", backup=self._backup)
        return ExitCode.DONE

    # --- The steps ---

    def _planned(self, unit: str | None) -> list[Step]:
        begin = [Step(name="backup", do=self._back_up, undo=self._drop_backup)]
        middle = [Step(name="clear", do=self._clear, undo=self._restore), Step(name="reset", do=self._reset_server)]
        verify = Step(name="verify", do=self._verify, command="seatkeeper status")
        if unit is None:
            return [*begin, *middle, Step(name="activate", do=self._activate, command="seatkeeper activate"), verify]
        stop = Step(name="stop", do=lambda: units.stop(unit), undo=lambda: units.start(unit))
        start = Step(name="start", do=lambda: units.start(unit), command=f"systemctl start {unit}")
        return [*begin, stop, *middle, start, verify]

    async def _back_up(self) -> None:
        self._backup.mkdir(mode=0o700, parents=True)
        configuration = private_files.read(self._session.config or config_file())
        if configuration is not None:
            private_files.write(self._backup / "config.toml", configuration)

    async def _drop_backup(self) -> None:
        """A copy that nobody needs: all is as it was."""
        (self._backup / "config.toml").unlink(missing_ok=True)
        self._backup.rmdir()

    async def _clear(self) -> None:
        with suppress(FileNotFoundError):
            os.replace(self._here.cache.path, self._backup / self._here.cache.path.name)

    async def _restore(self) -> None:
        with suppress(FileNotFoundError):
            os.replace(self._backup / self._here.cache.path.name, self._here.cache.path)

    async def _reset_server(self) -> None:
        try:
            device_id, generation = await self._device()
            done = await self._api.reset(device_id, str(self._here.settings.license_key), generation)
        except (Refused, CommandError) as refused:
            if not _knows_no_seat(refused):
                raise
            return
        self._reset_at = done.last_reset_time
        if self._unit is None:
            self._here.cache.write(Kept(last_reset_time=done.last_reset_time))

    async def _device(self) -> tuple[str, int]:
        if self._kept.device_id is not None:
            return self._kept.device_id, self._kept.generation
        device = await held_seat(self._api, self._here)
        return device.device_id, device.generation

    async def _activate(self) -> None:
        async with self._here.client(self._session) as client:
            await client.activate()

    async def _verify(self) -> None:
        """The server says that this machine holds a seat; an application needs a moment to take it."""
        settings, code = self._here.settings, ""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._session.timeout_s or VERIFY_S):
                while code != "VALID":
                    key = str(settings.license_key)
                    code = (await self._api.validate(key, self._here.fingerprint, settings.version)).code
                    await asyncio.sleep(LOOK_S if code != "VALID" else 0)
        if code != "VALID":
            raise CommandError("failure.not_verified", ExitCode.NOT_ACTIVE, state=code or "?")

    # --- When one fails ---

    async def _stopped(self, number: int, error: Exception) -> int:
        failure = failure_of(error, self._session.language)
        past_undoing = number > [step.name for step in self.steps].index("reset")
        undone = 0 if past_undoing else await self._undo(number)
        self._show(number, undone=undone, why=failure.detail)
        self._session.note("failure.reset", step=self.said(self.steps[number]), why=failure.detail)
        if past_undoing:
            commands = "; ".join(step.command for step in self.steps[number:])
            self._session.note("reset.go_on", commands=commands, backup=self._backup)
        elif undone == number:
            self._session.note("reset.unknown" if failure.exit_code == ExitCode.UNREACHABLE else "reset.restored")
        else:
            self._session.note("reset.go_on_by_hand", backup=self._backup)
        return failure.exit_code

    async def _undo(self, number: int) -> int:
        """Undo the steps before this one, the last first; how many are undone."""
        for done, step in enumerate(reversed(self.steps[:number])):
            try:
                if step.undo is not None:
                    await step.undo()
            except (CommandError, OSError):
                return done
        return number

    def _show(self, done: int, *, undone: int = 0, why: str | None = None) -> None:
        outcomes = ["done"] * (done - undone) + ["undone"] * undone
        outcomes += ["failed", *["not_done"] * len(self.steps)][: len(self.steps) - done]
        steps = zip(self.steps, outcomes, strict=True)
        self._session.show(
            {
                "ok": done == len(self.steps),
                "backup": self._backup if os.path.exists(self._backup) else None,
                "lastResetTime": self._reset_at,
                "detail": why,
                "steps": [
                    {"step": step.name if self._session.as_json else self.said(step), "outcome": self._outcome(outcome)}
                    for step, outcome in steps
                ],
            }
        )

    def _outcome(self, outcome: str) -> str:
        return outcome if self._session.as_json else text(f"outcome.{outcome}", self._session.language)


def _knows_no_seat(error: Refused | CommandError) -> bool:
    return (error.code if isinstance(error, Refused) else error.key) in ("DEVICE_NOT_FOUND", "failure.no_seat")
