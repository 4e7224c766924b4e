"""The portal: what vendors define and look up. For now its probes and the `admin` command."""
