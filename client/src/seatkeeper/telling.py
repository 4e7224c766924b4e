"""Errors in the language of those who read them: `sentence` of one that is in hands, `in_own_language` for what a
class raises, which has its language in `_language`."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from seatkeeper.errors import SeatkeeperError
from seatkeeper.fault_texts import CHINESE
from seatkeeper.texts import Sentence

_P = ParamSpec("_P")
_T = TypeVar("_T")


def sentence(error: SeatkeeperError, language: str) -> str:
    """What an error says. The words of others, such as the server's, stay as they are."""
    said = error.args[0] if error.args else ""
    if isinstance(said, Sentence):
        return said.told(language)
    return CHINESE.get(said, str(said)) if language == "zh" else str(said)


@contextmanager
def _telling(speaker: Any) -> Iterator[None]:
    """The speaker's language is asked for at the end: a constructor sets it on its way."""
    try:
        yield
    except SeatkeeperError as error:
        if speaker._language != "en":
            error.args = (sentence(error, speaker._language), *error.args[1:])
        raise


def in_own_language(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """A method, plain or a coroutine, whose errors are told in `self._language`."""

    @functools.wraps(method)
    def told(*arguments: _P.args, **options: _P.kwargs) -> _T:
        with _telling(arguments[0]):
            return method(*arguments, **options)

    @functools.wraps(method)
    async def told_later(*arguments: _P.args, **options: _P.kwargs) -> Any:
        with _telling(arguments[0]):
            return await cast(Any, method(*arguments, **options))

    return cast(Callable[_P, _T], told_later) if inspect.iscoroutinefunction(method) else told
