"""The settings of the standalone: those of every service that takes more than the shared ones."""

import msgspec

from services.reaper.settings import Settings as ReaperSettings
from shared.runtime.sections import Reconciliation


class Settings(ReaperSettings, frozen=True, kw_only=True):
    reconciliation: Reconciliation = msgspec.field(default_factory=Reconciliation)
