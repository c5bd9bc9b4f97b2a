"""What one request may cost. Each limit is refused with its name, before anything is made of the excess."""

from __future__ import annotations

from typing import Final

from perdure.domain.turn import BUNDLE_BYTES_MAX

CREATE_BODY_BYTES_MAX: Final = 4_096  # one id, with room for members that are ignored
APPEND_BODY_BYTES_MAX: Final = 24 * 1_048_576  # what servers of this protocol take as JSON
BUNDLE_BODY_BYTES_MAX: Final = BUNDLE_BYTES_MAX  # a bundle is kept byte for byte, so its body is what is kept
QUERY_FIELDS_MAX: Final = 50  # parameters of one address; the route with the most knows eleven
HEAD_BYTES_MAX: Final = 65_536  # request line and headers, so that a search and a path of its length fit
CONNECTIONS_MAX: Final = 512  # what servers of this protocol take; more are answered 503

PAYLOAD_DEPTH_MAX: Final = 128  # levels of a payload or of JSON; records of agents have ten
PAYLOAD_VALUES_MAX: Final = 100_000  # values of one payload; a byte of it can become 60 of memory

CQL_CHARS_MAX: Final = 8_192  # one search; each of its terms is compared with every context
CQL_DEPTH_MAX: Final = 64  # parentheses within each other: the parser calls itself for each

SCAN_CONTEXTS_MAX: Final = 1_000  # contexts that one list or search looks at; each is at least one read
SCAN_WHOLE_CONTEXTS_MAX: Final = 10_000  # where an answer cannot say that there are more; all their metadata is kept
METADATA_KNOWN_MAX: Final = 10_000  # contexts whose metadata is kept, so that a list reads heads only
METADATA_CHARS_MAX: Final = 4_096  # one text of it; what is longer is no title, and would be kept for each context
METADATA_ITEMS_MAX: Final = 100  # labels, or variables, of one context
LOOKS_AT_ONCE: Final = 8  # reads of one request at the same time

REGISTRY_BUNDLES_MAX: Final = 1_000  # bundles of one registry, all of which are in memory
BUNDLE_NAME_CHARS_MAX: Final = 256  # a bundle's id in this protocol: any text
FS_PARTS_MAX: Final = 256  # directories in one path; each is an object that is read

REQUEST_TIMEOUT_S: Final = 30.0
BODY_TIMEOUT_S: Final = 30.0
REFRESH_INTERVAL_S: Final = 1.0  # how soon an unknown type is looked for again in what others published
RELOAD_INTERVAL_S: Final = 30.0  # how soon a later version that others published is the latest here
