"""The settings of the reaper: the shared ones, how often and how much it works, and how long the trail is kept."""

from typing import Annotated

import msgspec

from shared.runtime.resources import Settings as SharedSettings
from shared.runtime.sections import Audit


class Reaper(msgspec.Struct, frozen=True, kw_only=True):
    """A pass begins every `interval_s` seconds, give or take a tenth, and looks at `page` devices at a time."""

    interval_s: Annotated[float, msgspec.Meta(ge=0.1, le=86_400)] = 60.0
    page: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5000


class Settings(SharedSettings, frozen=True, kw_only=True):
    reaper: Reaper = msgspec.field(default_factory=Reaper)
    audit: Audit = msgspec.field(default_factory=Audit)
