"""What the system says of a failed call, as a sentence that knows every language, for the failures that people meet."""

import errno
import os

from seatkeeper.texts import Sentence

_BY_NUMBER = {
    errno.ENOENT: "error.system.no_file",
    errno.EACCES: "error.system.no_permission",
    errno.EPERM: "error.system.no_permission",
    errno.EISDIR: "error.system.is_folder",
    errno.ENOTDIR: "error.system.no_folder",
    errno.ENOSPC: "error.system.full",
    errno.EROFS: "error.system.read_only",
    errno.ECONNREFUSED: "error.system.refused",
    errno.ENETUNREACH: "error.system.no_network",
    errno.EHOSTUNREACH: "error.system.no_route",
}


def system_words(error: BaseException) -> str:
    """Other failures are told in the system's own words."""
    number = getattr(error, "errno", None)
    if number is None or number <= 0:
        return Sentence("error.system.no_connection")
    return Sentence(_BY_NUMBER[number]) if number in _BY_NUMBER else os.strerror(number).lower()
