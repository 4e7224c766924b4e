"""The wiring of activation: its use cases on the shared resources, its routes."""

from services.activation.access import Access
from services.activation.activate import Activation
from services.activation.devices import Devices
from services.activation.handlers import Handlers
from services.activation.offline import Issuing, Returning
from services.activation.offline_handlers import OfflineHandlers
from services.activation.public_keys import PublicKeys
from services.activation.release import Releasing
from services.activation.validate import Validation
from shared.runtime.resources import Resources
from shared.web.routes import Route


def routes(resources: Resources) -> list[Route]:
    r = resources
    access = Access(r.reader, r.keystore, r.license_keys, r.limits)
    handlers = Handlers(
        activation=Activation(access, r.nonces, r.reader, r.holders, r.ledger, r.issuer),
        validation=Validation(access, r.contacts, r.refusals, r.reader, r.ledger, r.clock),
        releasing=Releasing(access, r.ledger),
        devices=Devices(access, r.reader),
        public_keys=PublicKeys(r.reader, r.keystore),
        clock=r.clock,
        address_of=r.limits.address_of,
    )
    returning = Returning(access, r.limits.failures, r.ledger, r.offline_files)
    offline = OfflineHandlers(
        issuing=Issuing(access, r.reader, r.ledger, r.offline_files, r.file_signer, r.clock, returning),
        returning=returning,
        clock=r.clock,
        address_of=r.limits.address_of,
    )
    return [*handlers.routes(), *offline.routes()]
