"""The sealer's loop: once a second the rows that the trail has got are sealed. Any number of replicas; one at a time.

The chain's head is logged now and then, so that the logs hold what a cut of the chain's end would take away.
"""

import asyncio
from time import monotonic

import structlog

from shared.ledger.chain import Seal
from shared.ledger.connections import UnavailableError
from shared.ledger.sealing import BrokenChainError, Sealer
from shared.runtime.background import pause
from shared.runtime.metrics import Metrics

_log = structlog.get_logger()

EVERY_S = 1.0
TELL_HEAD_EVERY_S = 600.0
TELL_TROUBLE_EVERY_S = 60.0


class Sealing:
    def __init__(self, sealer: Sealer, metrics: Metrics) -> None:
        self._sealer = sealer
        self._rows = metrics.counter("trail_sealed", "Rows of the trail that this process has sealed.")
        self._broken = metrics.gauge("trail_chain_broken", "1 while the chain of seals is broken and not built upon.")
        self._head_due = self._trouble_due = monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not await self._more():
                await pause(stop, EVERY_S)

    async def _more(self) -> bool:
        """Seal a batch; whether another waits."""
        try:
            sealed = await self._sealer.seal()
        except UnavailableError:
            return False  # as others tell
        except BrokenChainError as error:
            self._broken.set(1)
            self._tell("trail.chain_broken", error)
            return False
        except Exception as error:
            self._tell("trail.sealing_failed", error)
            return False
        self._broken.set(0)
        self._rows.inc(sealed.rows)
        if sealed.head is not None:
            self._tell_head(sealed.head)
        return sealed.rows > 0 and not sealed.done

    def _tell_head(self, head: Seal) -> None:
        if monotonic() >= self._head_due:
            self._head_due = monotonic() + TELL_HEAD_EVERY_S
            _log.info("trail.sealed", head=head.head)

    def _tell(self, event: str, error: Exception) -> None:
        if monotonic() >= self._trouble_due:
            self._trouble_due = monotonic() + TELL_TROUBLE_EVERY_S
            _log.error(event, exc_info=error)
