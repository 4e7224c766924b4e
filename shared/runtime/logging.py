"""Logs: JSON lines on stdout in production, colour on a terminal, stdlib loggers routed through.

Rules: one handler on the root logger. Every event passes `redaction` last, its traceback included. Timestamps are
RFC 3339 in UTC. A malformed HTTP request is the client's fault and is not logged: it was answered 400, and anyone could
fill the log with such. An event is a short constant text; what varies stands beside it under names.
"""

import logging
import sys
from typing import TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import EventDict, Processor, WrappedLogger

from shared.runtime.redaction import redact
from shared.runtime.sections import Log

_QUIET = {
    "aiohttp.access": logging.WARNING,
    "asyncio": logging.WARNING,
    "asyncpg": logging.WARNING,
    "aiormq": logging.CRITICAL,  # what it logs, it raises too, and whoever catches it says so once
    "aio_pika": logging.CRITICAL,
}


def configure(settings: Log, *, stream: TextIO | None = None) -> None:
    """Set up structlog and the root logger for this process. May be called again."""
    out = stream if stream is not None else sys.stdout
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    console = settings.format == "console" or (settings.format == "auto" and out.isatty())
    structlog.configure(
        processors=[*_shared(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _attach(out, level, console)


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """The processor that masks secrets in every value of an event."""
    return {name: redact(value, name) for name, value in event.items()}


def _not_the_clients_fault(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
    ]


def _renderer(console: bool) -> Processor:
    if console:
        return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    return structlog.processors.JSONRenderer()


def _attach(out: TextIO, level: int, console: bool) -> None:
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared(), processors=[remove_meta, redact_event, _renderer(console)]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("aiohttp.server").addFilter(_not_the_clients_fault)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(level, quiet))
