"""Makes the secrets of compose.yaml, one file each, from fresh random bytes. A file that is there already stays.

The containers' users have other ids than whoever runs this, so the files are readable by all and the folder by its
owner alone.

    python3 deploy/compose_secrets.py [FOLDER]
"""

import base64
import os
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
OWNER = "seatkeeper_owner"
BROKER_USER = "seatkeeper"
USERS = ("activation", "heartbeat", "reaper", "portal", "operator")
MASTER_SECRET_BYTES = 32


def main(argv: list[str]) -> int:
    folder = Path(argv[0]) if argv else FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secrets(folder)
    return 0


def write_secrets(folder: Path) -> None:
    """Passwords first, then what repeats them: DSNs for asyncpg, a service file for psql, settings of the others."""
    owner = _keep(folder / "owner_password", _password())
    _keep(folder / "owner_dsn", _dsn(OWNER, owner))
    _keep(folder / "owner_service", f"[owner]\nhost=postgres\ndbname=seatkeeper\nuser={OWNER}\npassword={owner}\n")
    for user in USERS:
        password = _keep(folder / f"{user}_password", _password())
        _keep(folder / f"{user}_dsn", _dsn(f"seatkeeper_{user}", password))
    valkey = _keep(folder / "valkey_password", _password())
    _keep(folder / "valkey_settings", f"requirepass {valkey}\n")
    _keep(folder / "redis_url", f"redis://:{valkey}@valkey:6379/0")
    rabbitmq = _keep(folder / "rabbitmq_password", _password())
    _keep(folder / "rabbitmq.conf", f"default_user = {BROKER_USER}\ndefault_pass = {rabbitmq}\n")
    _keep(folder / "rabbitmq_url", f"amqp://{BROKER_USER}:{rabbitmq}@rabbitmq:5672/")
    _keep(folder / "master_keys", f"k1:{base64.b64encode(os.urandom(MASTER_SECRET_BYTES)).decode()}")


def _keep(file: Path, fresh: str) -> str:
    """The file's content; `fresh` becomes it if there is no such file."""
    try:
        with open(file, "x", encoding="utf-8") as made:
            made.write(fresh)
    except FileExistsError:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    file.chmod(0o444)
    return fresh


def _password() -> str:
    """Letters and digits only, so that no file's syntax needs it quoted."""
    return secrets.token_hex(24)


def _dsn(role: str, password: str) -> str:
    return f"postgres://{role}:{password}@postgres:5432/seatkeeper"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
