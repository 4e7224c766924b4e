"""One Lua file for each verb, read once and called by its digest."""

from importlib.resources import files

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

VERBS = ("contact", "standing", "apply", "watermark", "discard", "sweep", "turn")


def register(client: "Redis") -> dict[str, AsyncScript]:
    """The scripts by verb. A server that lost them is sent them again at the next call."""
    folder = files("shared.seats") / "lua"
    return {verb: client.register_script((folder / f"{verb}.lua").read_bytes()) for verb in VERBS}
