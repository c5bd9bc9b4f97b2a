"""Connection strings that mean the same whatever the environment of the process says."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_PORT_DEFAULT: Final = "5432"


def pinned(dsn: str) -> str:
    """The DSN, so that no variable leads its host elsewhere. One without a host, or with a service, stays as it is.

    The client library fills every parameter that is left out from ``PG*`` variables, and an address (``PGHOSTADDR``)
    goes before a host that was given. One that cannot be read is returned too: connecting says what is wrong with it.
    """
    try:
        parts = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return dsn
    if "host" not in parts or "service" in parts:
        return dsn
    return make_conninfo(dsn, **{"hostaddr": "", "port": _PORT_DEFAULT, **parts})
