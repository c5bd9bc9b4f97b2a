"""What a conversation says about itself: the metadata in its first turn, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from perdure.adapters.cxdb.http_server.limits import METADATA_CHARS_MAX, METADATA_ITEMS_MAX
from perdure.adapters.cxdb.http_server.values import Pairs, Value, by_tag, read_map
from perdure.errors import Invalid, LimitExceeded

METADATA_TAG: Final = 30  # of every payload, whatever its type


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What was said; ``provenance`` has each of its keys, or is None. A value of another type is as if not said."""

    client_tag: str | None = None
    title: str | None = None
    labels: tuple[str, ...] = ()
    provenance: Mapping[str, object] | None = field(default=None, repr=False)

    def origin(self, name: str) -> object:
        """One value of the provenance, None where it is not said."""
        return None if self.provenance is None else self.provenance.get(name)


NOTHING: Final = Metadata()


def metadata_of(payload: bytes) -> Metadata:
    """The metadata of a payload; nothing where there is none, or where the payload cannot be read."""
    try:
        said = by_tag(read_map(payload)).get(METADATA_TAG)
    except (Invalid, LimitExceeded):
        return NOTHING  # a payload may be anything; that it says nothing about its conversation is no error
    if not isinstance(said, Pairs):
        return NOTHING
    fields = by_tag(said)
    return Metadata(
        client_tag=_text(fields.get(1)),
        title=_text(fields.get(2)),
        labels=_labels(fields.get(3)),
        provenance=_provenance(fields.get(10)),
    )


def _text(value: Value) -> str | None:
    return value if isinstance(value, str) and len(value) <= METADATA_CHARS_MAX else None


def _labels(value: Value) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    texts = (_text(each) for each in value[:METADATA_ITEMS_MAX])
    return tuple(each for each in texts if each is not None)


def _unsigned(bits: int) -> Callable[[Value], int | None]:
    def read(value: Value) -> int | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**bits
        return value if fits and isinstance(value, int) else None

    return read


def _environment(value: Value) -> Mapping[str, str] | None:
    if not isinstance(value, Pairs):
        return None
    texts = ((_text(key), _text(inner)) for key, inner in value.items[:METADATA_ITEMS_MAX])
    return {key: inner for key, inner in texts if key is not None and inner is not None}


_PROVENANCE: Final[Mapping[int, tuple[str, Callable[[Value], object]]]] = {
    1: ("parent_context_id", _unsigned(64)),
    2: ("spawn_reason", _text),
    3: ("root_context_id", _unsigned(64)),
    10: ("trace_id", _text),
    11: ("span_id", _text),
    12: ("correlation_id", _text),
    20: ("on_behalf_of", _text),
    21: ("on_behalf_of_source", _text),
    22: ("on_behalf_of_email", _text),
    30: ("writer_method", _text),
    31: ("writer_subject", _text),
    32: ("writer_issuer", _text),
    40: ("service_name", _text),
    41: ("service_version", _text),
    42: ("service_instance_id", _text),
    43: ("process_pid", _unsigned(32)),
    44: ("process_owner", _text),
    45: ("host_name", _text),
    46: ("host_arch", _text),
    50: ("client_address", _text),
    51: ("client_port", _unsigned(16)),
    60: ("env", _environment),
    70: ("sdk_name", _text),
    71: ("sdk_version", _text),
    80: ("captured_at", _unsigned(64)),
}


def _provenance(value: Value) -> Mapping[str, object] | None:
    if not isinstance(value, Pairs):
        return None
    fields = by_tag(value)
    return {name: read(fields.get(tag)) for tag, (name, read) in _PROVENANCE.items()}
