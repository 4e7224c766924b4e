"""The states of the SDK, in English. `state.NAME` is the state's name, `reason.CODE` its sentence."""

TEXTS = {
    "state.PENDING": "Pending",
    "state.ACTIVE": "Active",
    "state.LIMITED": "Limited",
    "reason.ACTIVE": "The license is in force.",
    "reason.STARTING": "The license is being activated. Wait a moment.",
    "reason.WAITING_FOR_APPROVAL": "The vendor has to approve this device. Ask them, or wait: it goes on by itself.",
    "reason.UNREACHABLE": "The license server is out of reach. Work goes on until {until}; check the network by then.",
    "reason.CLOCK_SET_BACK": "This machine's clock was set back. Set it right; work goes on until {until}.",
    "reason.CLOCK_FROZEN": "This machine's clock stands still. Set it right; work goes on until {until}.",
    "reason.OFFLINE_FILE": "A license file is installed: no network is needed until {until}.",
    "reason.LEASE_ENDED": "The license server was out of reach for too long. Connect to the network to go on.",
    "reason.NOT_ACTIVATED": "This device is not activated.",
    "reason.RELEASED": "This device gave its seat back. Activate it to go on.",
    "reason.REFUSED": "The license server refuses this device ({code}). Ask your vendor.",
}
