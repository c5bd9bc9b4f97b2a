"""The end of a process that used the client: its threads have to be out of Python before Python ends.

They hand each result to the event loop, and whoever waits for the last one may be at the end of the program before the
thread has returned from doing so. An interpreter that ends with a thread of the client's in it aborts the process.
"""

from __future__ import annotations

import atexit
import sys
import threading
from typing import Final

_TURN_S: Final = 0.001  # the interpreter is given to whoever wants it for so long
_TURNS_MAX: Final = 1000  # a thread that never leaves is somebody else's


@atexit.register
def let_threads_leave() -> None:
    """Wait until no thread that Python did not start is in Python, for a second at most."""
    never = threading.Event()
    for _ in range(_TURNS_MAX):
        if not _is_anybody_there():
            return
        never.wait(_TURN_S)


def _is_anybody_there() -> bool:
    known = {thread.ident for thread in threading.enumerate()}
    return not known.issuperset(sys._current_frames())  # noqa: SLF001 - documented, and there is no other way to ask
