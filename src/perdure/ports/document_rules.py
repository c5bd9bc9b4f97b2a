"""What a request to a document driver may look like: every driver asks here first, before it asks its engine.

The checks return nothing, or raise ``Invalid`` (wrong in itself) or ``LimitExceeded`` (too much of it). Names
are told apart by their length only: a partition's name says whose data it is and does not belong in a message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from perdure.domain.limits import INTEGER_MAX
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.documents import (
    COMMIT_BYTES_MAX,
    COMMIT_WRITES_MAX,
    DOCUMENT_BYTES_MAX,
    GET_DOCUMENTS_MAX,
    PARTITION_CHARS_MAX,
    SCAN_DOCUMENTS_MAX,
    SORT_CHARS_MAX,
    Document,
    Expect,
    Expectation,
    ExpectationFailed,
    Put,
    Remove,
    Require,
    Write,
)

LOWEST_CHARACTER: Final = "-"  # of names; a key and it are the very next key that can exist
HIGHEST_CHARACTER: Final = "~"  # of names; no key that begins with a letter comes after it
BOUND_CHARS_MAX: Final = SORT_CHARS_MAX + 1  # the longest sort key and one character: what comes right after it
VERSION_MAX: Final = INTEGER_MAX  # engines that keep numbers as doubles change larger ones

# \Z, because $ would let a newline pass.
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9.~-]*\Z")
_BOUND: Final = re.compile(r"[A-Za-z0-9.~-]+\Z")

_EXPECTED: Final = {Expect.ABSENT: "nothing", Expect.PRESENT: "a document", Expect.ANY: "anything"}


def check_get(partition: str, sorts: Sequence[str]) -> None:
    """Raise unless these keys may be asked for: proper names, not too many, none twice. No key at all is fine."""
    _check_name("partition", partition, limit="partition_chars_max", allowed=PARTITION_CHARS_MAX)
    _check_most("get_documents_max", GET_DOCUMENTS_MAX, len(sorts), "documents in one get")
    for sort in sorts:
        _check_sort(sort)
    if len(set(sorts)) < len(sorts):
        raise Invalid("a sort key is asked for twice in one get; ask once and use the answer twice")


def check_scan(partition: str, start: str, end: str, limit: int) -> None:
    """Raise unless this range may be scanned.

    ``start`` and ``end`` are made of the characters of names, in any order, at least one and at most
    ``BOUND_CHARS_MAX``; ``end`` is not below ``start``, and a range where they are equal is empty. From ``A`` to ``~``
    is everything; ``sort + LOWEST_CHARACTER`` begins right after ``sort``.
    """
    _check_name("partition", partition, limit="partition_chars_max", allowed=PARTITION_CHARS_MAX)
    for name, bound in (("start", start), ("end", end)):
        _check_most("bound_chars_max", BOUND_CHARS_MAX, len(bound), f"characters in the {name} of a range")
        if not _BOUND.match(bound):
            raise Invalid(f"the {name} of a range must be ASCII letters, digits and . ~ - and not empty")
    if end < start:
        raise Invalid("the end of a range is below its start; start comes first in a reverse scan too")
    if limit < 1:
        raise Invalid(f"a scan for {limit} documents; ask for at least 1")
    _check_most("scan_documents_max", SCAN_DOCUMENTS_MAX, limit, "documents in one scan")


def check_commit(partition: str, writes: Sequence[Write]) -> None:
    """Raise unless this can be one commit: something to write, proper names, sizes and expectations, no key twice."""
    _check_name("partition", partition, limit="partition_chars_max", allowed=PARTITION_CHARS_MAX)
    if not writes:
        raise Invalid("a commit of nothing; leave it out")
    _check_most("commit_writes_max", COMMIT_WRITES_MAX, len(writes), "writes in one commit")
    for write in writes:
        _check_sort(write.sort)
        if isinstance(write, Put):
            _check_put(write)
        elif isinstance(write, Remove):
            if write.expect is Expect.ABSENT:
                raise Invalid("a removal expects that nothing is there; leave it out, or expect something")
            _check_expectation(write.expect)
    if len({write.sort for write in writes}) < len(writes):
        raise Invalid("two writes of one commit have the same sort key; make them one")
    _check_most("commit_bytes_max", COMMIT_BYTES_MAX, commit_bytes(partition, writes), "bytes in one commit")


def commit_bytes(partition: str, writes: Sequence[Write]) -> int:
    """What counts towards ``COMMIT_BYTES_MAX``: each write's partition and sort, and the bodies."""
    sizes = [len(write.sort) + (len(write.body) if isinstance(write, Put) else 0) for write in writes]
    return len(partition) * len(writes) + sum(sizes)


def holds(write: Write, version: int | None) -> bool:
    """Whether a write finds what it expects where there is a document of this ``version``, or none (None)."""
    match Expect.PRESENT if isinstance(write, Require) else write.expect:
        case Expect.ANY:
            return True
        case Expect.ABSENT:
            return version is None
        case Expect.PRESENT:
            return version is not None
        case expected:
            return version == expected


def not_as_expected(write: Write, found: Document | None) -> ExpectationFailed:
    """The error for a write that does not hold, for drivers that know what they found."""
    expect = Expect.PRESENT if isinstance(write, Require) else write.expect
    expected = _EXPECTED[expect] if isinstance(expect, Expect) else f"version {expect}"
    actual = "nothing" if found is None else f"version {found.version}"
    return ExpectationFailed(
        f"a write expected {expected} and found {actual}; nothing of the commit was written",
        sort=write.sort,
        found=found,
    )


def _check_put(put: Put) -> None:
    _check_most("document_bytes_max", DOCUMENT_BYTES_MAX, len(put.body), "bytes in the body of a document")
    if not put.body:
        raise Invalid("an empty body is not JSON; write null")
    _check_version(put.version)
    _check_expectation(put.expect)
    if put.expires_at is not None and put.expires_at.utcoffset() is None:
        raise Invalid("expires_at has no time zone; use an aware time, as in datetime.now(UTC)")


def _check_expectation(expect: Expectation) -> None:
    if not isinstance(expect, Expect):
        _check_version(expect)


def _check_version(version: int) -> None:
    if not 0 <= version <= VERSION_MAX:
        raise Invalid(f"version {version}; expected 0 to {VERSION_MAX}")


def _check_sort(sort: str) -> None:
    _check_name("sort key", sort, limit="sort_chars_max", allowed=SORT_CHARS_MAX)


def _check_name(what: str, name: str, *, limit: str, allowed: int) -> None:
    _check_most(limit, allowed, len(name), f"characters in a {what}")
    if not _NAME.match(name):
        raise Invalid(f"a {what} must be ASCII letters, digits and . ~ - and begin with a letter")


def _check_most(limit: str, allowed: int, actual: int, what: str) -> None:
    if actual > allowed:
        raise LimitExceeded(
            f"{actual} {what}; at most {allowed} ({limit})", limit=limit, allowed=allowed, actual=actual
        )
