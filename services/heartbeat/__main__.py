"""`python -m services.heartbeat --config FILE`"""

import sys

from services.heartbeat.app import beside, routes, wanted
from services.heartbeat.settings import Settings
from shared.web.service import main

if __name__ == "__main__":
    sys.exit(main("heartbeat", Settings, routes, wanted, beside))
