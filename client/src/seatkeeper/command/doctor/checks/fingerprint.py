"""What this device is told by, and how sure that is. Facts are named, their values are not."""

from seatkeeper import fingerprint as own
from seatkeeper.command.doctor.finding import Finding, fail, ok, warn
from seatkeeper.command.doctor.subject import Subject
from seatkeeper.errors import ConfigurationError


async def fingerprint(subject: Subject) -> Finding:
    try:
        facts = own.facts(subject.environ, root=subject.machine.root)
        own.fingerprint(subject.product or "", subject.environ, root=subject.machine.root)
    except (ConfigurationError, OSError) as error:
        return fail("fingerprint", "none", error=str(error))
    place = own.surroundings(subject.environ, root=subject.machine.root)
    known = {"facts": ", ".join(fact.name for fact in facts), "place": place.value}
    weakness = own.weakness(facts)
    if weakness is not None:
        return warn("fingerprint", f"weak-{weakness.name.lower().replace('_', '-')}", **known)
    return ok("fingerprint", **known)
