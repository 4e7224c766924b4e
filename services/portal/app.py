"""The wiring of the portal: its use cases on the shared resources. It serves its probes; the API comes on top."""

from services.portal.accounts import Accounts
from services.portal.licenses import Licenses
from services.portal.lookups import Lookups
from shared.runtime.resources import Resources
from shared.web.routes import Route


def routes(_resources: Resources) -> list[Route]:
    return []


def accounts(resources: Resources) -> Accounts:
    return Accounts(
        resources.catalog,
        resources.secrets,
        resources.management_tokens,
        shortest_floating_lease_s=resources.testing.shortest_floating_lease_s,
    )


def licenses(resources: Resources) -> Licenses:
    return Licenses(resources.catalog, resources.ledger, resources.reader, resources.keystore, resources.license_keys)


def lookups(resources: Resources) -> Lookups:
    return Lookups(resources.catalog, resources.reader, resources.keystore)
