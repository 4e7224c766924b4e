"""`python -m services.activation --config FILE`"""

import sys

from services.activation.app import routes
from services.activation.settings import Settings
from shared.web.service import main

if __name__ == "__main__":
    sys.exit(main("activation", Settings, routes))
