"""Writes the registry bundle of turn records from their tables, beside them, under its version.

python tools/generate_bundle.py                       write the bundle of the current version, if there is none
python tools/generate_bundle.py --check               fail if it is not what the tables say, or if it clashes
python tools/generate_bundle.py --replace-unreleased  write it again; only for a version that no release has published
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

from perdure.domain.turn_records.bundle import bundle, clashes
from perdure.domain.turn_records.catalog import BUNDLE_ID, BUNDLE_VERSION, RECORD_TYPES

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "src" / "perdure" / "domain" / "turn_records"


def generated() -> bytes:
    """The bundle that the tables say."""
    return bundle(RECORD_TYPES, bundle_id=BUNDLE_ID, version=BUNDLE_VERSION)


def path_of(folder: Path, version: int) -> Path:
    """Where the bundle of a version lies."""
    return folder / f"bundle_v{version}.json"


def checked_in(folder: Path) -> dict[int, bytes]:
    """Every bundle that lies there, by version."""
    return {int(path.stem.removeprefix("bundle_v")): path.read_bytes() for path in folder.glob("bundle_v*.json")}


def complaints(folder: Path) -> list[str]:
    """What is wrong with the bundles of a folder; nothing if they may be published one after the other."""
    kept = checked_in(folder)
    found = []
    if kept.get(BUNDLE_VERSION) != generated():
        found.append(
            f"bundle_v{BUNDLE_VERSION}.json is not what the tables say: raise BUNDLE_VERSION (and the version of each "
            "record that changed) in the tables, then run: python tools/generate_bundle.py"
        )
    for older, newer in combinations(sorted(kept), 2):
        found += [f"bundle_v{newer}.json: {clash.message}" for clash in clashes(kept[older], kept[newer])]
    return found


def main() -> int:
    """Writes or checks; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the bundle is stale or clashes")
    parser.add_argument("--replace-unreleased", action="store_true", help="write over a bundle that differs")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the bundles lie")
    arguments = parser.parse_args()
    path = path_of(arguments.folder, BUNDLE_VERSION)
    if not arguments.check and (arguments.replace_unreleased or not path.exists()):
        path.write_bytes(generated())
        print(f"wrote {path.name}")
    found = complaints(arguments.folder)
    for complaint in found:
        print(complaint, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
