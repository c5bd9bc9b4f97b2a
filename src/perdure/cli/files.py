"""Files that commands read and write; ``-`` is stdin or stdout."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from perdure.errors import NotFound

STDIO: Final = "-"


@contextmanager
def written(file: str) -> Iterator[BinaryIO]:
    """A file to write that is there when the block ends well, and not before; or stdout.

    What is no file, such as a pipe or a device, is written to as it comes. Raises ``NotFound`` for a file that cannot
    be made.
    """
    if file == STDIO:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(os.path.realpath(file))
    is_replaced = path.is_file() or not path.exists()
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial") if is_replaced else path
    try:
        opened = partial.open("wb")
    except OSError as exc:
        raise NotFound(f"{file} cannot be written: {exc.strerror}") from exc
    try:
        with opened:
            yield opened
        if is_replaced:
            partial.replace(path)
    finally:
        if is_replaced:
            partial.unlink(missing_ok=True)


@contextmanager
def read(file: str) -> Iterator[BinaryIO]:
    """A file to read, or stdin. Raises ``NotFound`` for one that cannot be opened."""
    if file == STDIO:
        yield sys.stdin.buffer
        return
    try:
        opened = Path(file).open("rb")  # noqa: SIM115 - only opening it may say that it cannot be read
    except OSError as exc:
        raise NotFound(f"{file} cannot be read: {exc.strerror}") from exc
    with opened:
        yield opened


@contextmanager
def read_again(file: str) -> Iterator[BinaryIO]:
    """As ``read``, for who reads it more than once: what comes through a pipe is kept in a file meanwhile."""
    with read(file) as opened:
        if opened.seekable() and file != STDIO:
            yield opened
            return
        with tempfile.TemporaryFile() as kept:
            shutil.copyfileobj(opened, kept)
            kept.seek(0)
            yield kept
