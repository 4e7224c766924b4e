"""`python -m services.portal --config FILE`"""

import sys

from services.portal.app import routes
from services.portal.settings import Settings
from shared.web.service import main

if __name__ == "__main__":
    sys.exit(main("portal", Settings, routes, relays=False))
