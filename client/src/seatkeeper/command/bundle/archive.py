"""The archive: every file redacted by one redactor, so that the same value has the same placeholder in all of them."""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from seatkeeper.command.bundle.contents import Contents
from seatkeeper.redaction import Redactor

_FOR_THE_OWNER = 0o600


class File(NamedTuple):
    name: str
    data: bytes
    redacted: int


def redacted(contents: Contents, redactor: Redactor) -> list[File]:
    return sorted([*_documents(contents, redactor), *_texts(contents, redactor)])


def packed(files: list[File], folder: str, at_s: float) -> bytes:
    """A .tar.gz of them in one folder, under no user's name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in files:
            member = tarfile.TarInfo(f"{folder}/{file.name}")
            member.size, member.mtime, member.mode = len(file.data), int(at_s), _FOR_THE_OWNER
            archive.addfile(member, io.BytesIO(file.data))
    return buffer.getvalue()


def _documents(contents: Contents, redactor: Redactor) -> Iterator[File]:
    for name, document in contents.documents.items():
        before = redactor.taken.total()
        told = json.dumps(redactor.data(document), ensure_ascii=False, indent=2, default=str) + "\n"
        yield File(name, told.encode(), redactor.taken.total() - before)


def _texts(contents: Contents, redactor: Redactor) -> Iterator[File]:
    for name, text in contents.texts.items():
        before = redactor.taken.total()
        told = redactor.text(text)
        yield File(redactor.text(name), told.encode(errors="replace"), redactor.taken.total() - before)
