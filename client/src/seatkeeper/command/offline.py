"""`offline`: the device's side (`request`, `install`, `return`) and the holder's with a network (`activate`, `send`)

A file of any step can go by hand, as QR codes, or over a pipe.
"""

import sys
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from seatkeeper import qr
from seatkeeper.client import Client
from seatkeeper.command.device import DEVICE, ThisDevice
from seatkeeper.command.devices import with_key
from seatkeeper.command.failures import CommandError, ExitCode
from seatkeeper.command.inputs import ON_STDIN, read_bytes
from seatkeeper.command.session import Session, verb
from seatkeeper.license_file import LicenseFile, verify_license_file
from seatkeeper.messages import Members
from seatkeeper.offline_documents import Document
from seatkeeper.signatures import read_root_key
from seatkeeper.system_words import system_words

app = typer.Typer(no_args_is_help=True)

REQUEST, LICENSE, RECEIPT = "seatkeeper-request.json", "seatkeeper-license.json", "seatkeeper-receipt.json"

LONGEST_DAYS = 3650
"""The most that the API takes; a license's policy may allow fewer."""

Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE|-", help="option.output")]
Qr = Annotated[bool, typer.Option("--qr", help="option.qr")]
QrFile = Annotated[Path | None, typer.Option(metavar="FILE", help="option.qr_file")]
Days = Annotated[int | None, typer.Option(min=1, max=LONGEST_DAYS, help="option.days")]


async def request(
    session: Session, days: Days = None, output: Output = REQUEST, qr: Qr = False, qr_file: QrFile = None
) -> None:
    async with _client(session) as client:
        made = client.offline.request(days)
    _hand_over(session, made.data, output, qr, qr_file)
    session.note("next.request", file=_named(output))


async def install(
    session: Session, file: Annotated[str, typer.Argument(metavar="FILE|-", help="option.license_file")]
) -> None:
    async with _client(session) as client:
        installed = client.offline.install(read_bytes(file))
    session.show({"installed": True, **described(installed)})
    session.note("next.install")


async def give_back(
    session: Session,
    output: Output = RECEIPT,
    qr: Qr = False,
    qr_file: QrFile = None,
    send: Annotated[bool, typer.Option("--send", help="option.send")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="option.yes")] = False,
) -> None:
    async with _client(session) as client:
        session.confirm("prompt.give_back", yes=yes)
        receipt = client.offline.give_back()
    _hand_over(session, receipt.data, output, qr, qr_file, sent=True if send else None)
    if send:
        await _send(session, receipt)
        session.note("note.released")
    else:
        session.note("next.receipt", file=_named(output))


async def activate(
    session: Session,
    file: Annotated[str, typer.Argument(metavar="REQUEST|-", help="option.request")],
    days: Days = None,
    output: Output = LICENSE,
    qr: Qr = False,
    qr_file: QrFile = None,
) -> None:
    settings = with_key(session, "url")
    asked = _document(file)
    with session.progress("progress.asking"):
        async with session.api(settings) as api:
            license_file = await api.offline_activate(str(settings.license_key), asked, days)
    more = described(_proven(license_file, asked, settings.root_key)) if settings.root_key else {}
    _hand_over(session, license_file, output, qr, qr_file, **more)
    session.note("next.license_file", file=_named(output))


async def send(
    session: Session, file: Annotated[str, typer.Argument(metavar="RECEIPT|-", help="option.receipt")]
) -> None:
    receipt = Document(_document(file))
    await _send(session, receipt)
    session.show({"sent": True, "deviceId": receipt.members.get("device")})
    session.note("note.released")


def described(file: LicenseFile) -> dict[str, object]:
    return {
        "deviceId": file.device_id,
        "generation": file.generation,
        "issued": file.issued,
        "expiry": file.expiry,
        "trial": file.trial or None,
        "entitlements": dict(file.entitlements),
    }


def _client(session: Session) -> AbstractAsyncContextManager[Client]:
    return ThisDevice(session.settings(*DEVICE)).client(session)


async def _send(session: Session, receipt: Document) -> None:
    with session.progress("progress.asking"):
        async with session.api(session.settings("url")) as api:
            await api.offline_return(receipt.members)


def _document(file: str) -> Members:
    try:
        return msgspec.json.decode(read_bytes(file), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise CommandError("failure.not_json", ExitCode.MISUSED, file=file) from None


def _proven(file: bytes, asked: Members, root_key: str) -> LicenseFile:
    """The file, verified as the machine that asked will do."""
    return verify_license_file(
        file,
        read_root_key(root_key),
        product=str(asked.get("product")),
        fingerprint=str(asked.get("fingerprint")),
        now=datetime.now(UTC),
    )


def _hand_over(session: Session, data: bytes, output: str, show: bool, qr_file: Path | None, **more: object) -> None:
    """Write the file, and its QR codes if they are wanted. What was written is shown, unless the file is on stdout."""
    codes = qr.encode(data) if show or qr_file is not None else None
    pictures = _pictures(codes, qr_file) if codes is not None and qr_file is not None else []
    if output == ON_STDIN:
        sys.stdout.buffer.write(data)
    else:
        _write(Path(output), data)
        session.show({"file": output, "bytes": len(data), **({"qrFiles": pictures} if pictures else {}), **more})
    if codes is not None and show:
        print(codes.terminal(), file=sys.stderr)


def _pictures(codes: qr.QrCodes, file: Path) -> list[str]:
    """One file for each symbol."""
    drawn = {".svg": codes.svg, ".png": codes.png}.get(file.suffix.lower())
    if drawn is None:
        raise CommandError("failure.picture", ExitCode.MISUSED)
    symbols = drawn()
    names = [file] if len(symbols) == 1 else [file.with_stem(f"{file.stem}-{n}") for n in range(1, len(symbols) + 1)]
    for name, symbol in zip(names, symbols, strict=True):
        _write(name, symbol)
    return [str(name) for name in names]


def _write(file: Path, data: bytes) -> None:
    try:
        file.write_bytes(data)
    except OSError as error:
        raise CommandError("failure.file", file=file, why=system_words(error)) from None


app.command("request", help="verb.offline.request")(verb(request))
app.command("install", help="verb.offline.install")(verb(install))
app.command("return", help="verb.offline.return")(verb(give_back))
app.command("activate", help="verb.offline.activate")(verb(activate))
app.command("send", help="verb.offline.send")(verb(send))


def _named(output: str) -> str:
    """On the other machine it lies in another folder."""
    return "FILE" if output == ON_STDIN else Path(output).name
