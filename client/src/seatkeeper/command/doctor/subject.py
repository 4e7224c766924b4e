"""What is examined: the settings as far as they could be read, this machine, and a way to the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from seatkeeper.api import Api
from seatkeeper.clock import Clock
from seatkeeper.command.doctor.machine import Machine
from seatkeeper.retry import Budget
from seatkeeper.transport import Transport

LIMIT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Subject:
    """`faults` are those of the settings; a member that is missing or faulty is None. `directory` is the cache's.

    `limit_s` is what each check may take.
    """

    url: str | None = None
    product: str | None = None
    license_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    root_key: str | None = None
    version: str | None = None
    name: str | None = None
    proxy: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    unit: str | None = None
    directory: Path | None = None
    fingerprint: str | None = None
    language: str = "en"
    config_path: Path | None = None
    faults: Sequence[str] = ()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    limit_s: float = LIMIT_S
    machine: Machine
    clock: Clock
    transport: Transport | None = field(default=None, repr=False)

    @property
    def host(self) -> str | None:
        return urlsplit(self.url).hostname if self.url else None

    @property
    def is_tls(self) -> bool:
        return self.url is not None and urlsplit(self.url).scheme == "https"

    @property
    def port(self) -> int:
        return (urlsplit(self.url).port if self.url else None) or (443 if self.is_tls else 80)

    @property
    def patience_s(self) -> float:
        """How long to wait for an answer, so that there is time left to tell that none came."""
        return 0.8 * self.limit_s

    def api(self) -> Api | None:
        """Without a budget for second tries: what fails here is a finding."""
        if self.transport is None:
            return None
        return Api(self.transport, clock=self.clock, language=self.language, budget=Budget(reserve=0))
