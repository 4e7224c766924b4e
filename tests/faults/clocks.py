"""The wall clock of one host, set while its processes run (libfaketime). Their monotonic clocks go on truly."""

from pathlib import Path

from tests.servers import ServersMissingError, require


class HostClock:
    """The clock of the processes that were started in its `surroundings`.

    It is looked at for each reading if it is `exact`, so that all processes see a step at once, or else once a second.
    """

    def __init__(self, path: Path, library: Path, *, exact: bool = False) -> None:
        self._path = path
        self._library = library
        self._exact = exact
        self.step(0)

    def step(self, seconds: float) -> None:
        """Set it so much ahead of the true time."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(f"{seconds:+.0f}\n")
        fresh.chmod(0o644)
        fresh.rename(self._path)

    @property
    def surroundings(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            **({"FAKETIME_NO_CACHE": "1"} if self._exact else {"FAKETIME_CACHE_DURATION": "1"}),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }


def find_library() -> Path | None:
    """Of the package `faketime`, installed where that is possible."""
    try:
        require("faketime", package="faketime")
    except ServersMissingError:
        return None
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
