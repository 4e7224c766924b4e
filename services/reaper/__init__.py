"""The reaper: announces leases that are about to end, and frees the seats of those that have."""
