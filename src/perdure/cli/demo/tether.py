"""Child processes that never outlive the demo: each holds the end of a pipe whose other end only the parent has.

``python -m perdure.cli.demo.tether ARGUMENTS`` is ``perdure ARGUMENTS``, tied like that.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Final

GRACE_S: Final = 10.0
"""How long a child may take to finish what it has in hand."""

_TOO_SLOW: Final = 3


def tie_to_parent() -> None:
    """Send SIGTERM to this process when its stdin ends: its parent wants it to stop, or is gone, however it went.

    It is cut off ``GRACE_S`` seconds later if it is still there.
    """
    threading.Thread(target=_watch, name="tether", daemon=True).start()


def _watch() -> None:
    while os.read(0, 4_096):
        continue
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_S)
    os._exit(_TOO_SLOW)


if __name__ == "__main__":
    from perdure.cli.main import main

    tie_to_parent()
    main(sys.argv[1:])
