"""The settings of portal: those that all services share."""

from shared.runtime.resources import Settings

__all__ = ["Settings"]
