"""Activation: devices take seats and give them back; keys are validated; public keys are served."""
