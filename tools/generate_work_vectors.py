"""Fills in what the vectors of hash scheme v1 must give, from their inputs: tests/golden/work_hash_v1.json.

python tools/generate_work_vectors.py          write what is missing, and never over what is there
python tools/generate_work_vectors.py --check  fail if something is missing, or is not what the scheme gives

A vector is added by hand, without ``preimage``, ``hash``, ``stored`` or ``path``. What was published stays as it is:
a rule that gives another hash is another scheme.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from perdure.domain.typed_values import TypedValue, encode_value
from perdure.domain.work_hash import (
    content_hash,
    content_preimage,
    entry_hash,
    entry_preimage,
    hash_scheme,
    value_digest,
)
from perdure.errors import Refused

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "golden" / "work_hash_v1.json"

Node = Mapping[str, Any]
Vector = dict[str, Any]

_LEAVES: Mapping[str, Callable[[Any], Any]] = {
    "boolean": bool,
    "integer": int,
    "float": lambda bits: struct.unpack(">d", bytes.fromhex(bits))[0],
    "text": str,
    "code_points": lambda points: "".join(chr(int(point, 16)) for point in points),
    "decimal": Decimal,
    "time": datetime.fromisoformat,
    "uuid": UUID,
    "bytes": bytes.fromhex,
}


def value_of(node: Node) -> Any:
    """The value that a node of the notation means: an object with one member, named like its type."""
    ((kind, content),) = node.items()
    if kind == "null":
        return None
    if kind == "list":
        return [value_of(item) for item in content]
    if kind == "map":
        return {value_of(key): value_of(item) for key, item in content}
    if kind == "nested_lists":
        inner: list[Any] = []
        for _ in range(content - 1):
            inner = [inner]
        return inner
    return _LEAVES[kind](content)


def content_results(vector: Vector) -> Vector:
    """What a vector of a content hash must give."""
    attributes: dict[str, TypedValue] = value_of(vector["attributes"])
    unit_id, key = UUID(vector["unit_id"]), key_of(vector)
    return {
        "scheme": hash_scheme(key),
        "preimage": content_preimage(attributes, unit_id=unit_id, schema=vector["schema"], key=key).decode(),
        "hash": content_hash(attributes, unit_id=unit_id, schema=vector["schema"], key=key),
    }


def entry_results(vector: Vector) -> Vector:
    """What a vector of an entry hash must give."""
    entry: dict[str, TypedValue] = value_of(vector["entry"])
    key = key_of(vector)
    return {
        "scheme": hash_scheme(key),
        "preimage": entry_preimage(vector["previous_hash"], entry, key=key).decode(),
        "hash": entry_hash(vector["previous_hash"], entry, key=key),
    }


def chain_results(vector: Vector) -> Vector:
    """What a vector of a chain must give: the hash of each entry, each made with that of the one before."""
    key = key_of(vector)
    hashes: list[str] = []
    for entry in vector["entries"]:
        hashes.append(entry_hash(hashes[-1] if hashes else None, value_of(entry), key=key))
    return {"scheme": hash_scheme(key), "hashes": hashes}


def stored_results(vector: Vector) -> Vector:
    """What a vector of a stored value must give."""
    stored = encode_value(value_of(vector["value"]))
    return {"stored": stored, "digest": value_digest(stored)}


def refused_results(vector: Vector) -> Vector:
    """What a vector of a refusal must give: the place of what has no form, null where a limit is passed."""
    try:
        content_hash(value_of(vector["attributes"]), unit_id=UUID(int=0), schema="s")
    except Refused as exc:
        return {"path": exc.detail.get("path")}
    raise AssertionError(f"{vector['name']} is not refused")


SECTIONS: Mapping[str, Callable[[Vector], Vector]] = {
    "content": content_results,
    "entries": entry_results,
    "chains": chain_results,
    "stored": stored_results,
    "refused": refused_results,
}


def key_of(vector: Vector) -> bytes | None:
    """The key of a vector, None for one without."""
    return bytes.fromhex(vector["key"]) if "key" in vector else None


def complaints(document: Mapping[str, Any]) -> list[str]:
    """What is missing from the vectors or is not what the scheme gives; nothing if they hold."""
    found: list[str] = []
    for section, results in SECTIONS.items():
        for vector in document[section]:
            for name, expected in results(vector).items():
                if name not in vector:
                    found.append(f"{section}: {vector['name']}: no {name}; run: python tools/generate_work_vectors.py")
                elif vector[name] != expected:
                    found.append(f"{section}: {vector['name']}: {name} is not what the scheme gives: {expected}")
    return found


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The vectors with what was missing; what is there stays, also where it is wrong."""
    return {
        **document,
        **{
            section: [{**vector, **results(vector), **vector} for vector in document[section]]
            for section, results in SECTIONS.items()
        },
    }


def main() -> int:
    """Writes or checks; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a vector is incomplete or wrong")
    parser.add_argument("--file", type=Path, default=VECTORS, help="where the vectors lie")
    arguments = parser.parse_args()
    document = json.loads(arguments.file.read_text(encoding="utf-8"))
    if not arguments.check:
        document = completed(document)
        arguments.file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    found = complaints(document)
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
