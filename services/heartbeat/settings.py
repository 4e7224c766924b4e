"""The settings of heartbeat: those that all services share, and how fast it compares Redis with Postgres."""

import msgspec

from shared.runtime.resources import Settings as SharedSettings
from shared.runtime.sections import Reconciliation


class Settings(SharedSettings, frozen=True, kw_only=True):
    reconciliation: Reconciliation = msgspec.field(default_factory=Reconciliation)
