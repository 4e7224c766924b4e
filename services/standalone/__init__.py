"""The standalone: all services in one process on one port, over its own Postgres and Valkey. The one-command start."""
