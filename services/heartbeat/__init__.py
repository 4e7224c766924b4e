"""Heartbeat: devices that hold a seat are heard, and told when they have lost it."""
