"""The wiring of activation: its use cases on the shared resources, its routes."""

from services.activation.access import Access
from services.activation.activate import Activation
from services.activation.devices import Devices
from services.activation.handlers import Handlers
from services.activation.public_keys import PublicKeys
from services.activation.release import Releasing
from services.activation.validate import Validation
from shared.runtime.resources import Resources
from shared.web.routes import Route


def routes(resources: Resources) -> list[Route]:
    r = resources
    access = Access(r.reader, r.keystore, r.license_keys, r.limits)
    return Handlers(
        activation=Activation(access, r.nonces, r.reader, r.holders, r.ledger, r.issuer),
        validation=Validation(access, r.contacts, r.refusals, r.reader, r.ledger, r.clock),
        releasing=Releasing(access, r.ledger),
        devices=Devices(access, r.reader),
        public_keys=PublicKeys(r.reader, r.keystore),
        clock=r.clock,
        address_of=r.limits.address_of,
    ).routes()
