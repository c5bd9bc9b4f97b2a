"""The published vectors of hash scheme v1 hold here, in a fresh process, and under every Python of this machine."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rfc8785

from tools.generate_work_vectors import SECTIONS, VECTORS, complaints, completed

pytestmark = pytest.mark.fast

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = json.loads(VECTORS.read_text(encoding="utf-8"))
HASHED = [*DOCUMENT["content"], *DOCUMENT["entries"]]

# The two modules of the scheme need no third package but rfc8785, and the names above them mean nothing to them.
CHILD = """
import json, sys, types
root, site, vectors = sys.argv[1:]
for name, folder in (("perdure", "src/perdure"), ("perdure.domain", "src/perdure/domain")):
    package = types.ModuleType(name)
    package.__path__ = [f"{root}/{folder}"]
    sys.modules[name] = package
sys.path.insert(0, f"{root}/tools")
sys.path.append(site)
import generate_work_vectors as tool
document = json.load(open(vectors, encoding="utf-8"))
print(json.dumps([tool.complaints(document), sys.flags.hash_randomization, list(sys.version_info[:2])]))
"""


def interpreters() -> Iterator[Path]:
    """This Python, and each newer or equal one where such are commonly kept."""
    yield Path(sys.executable)
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(11, 20):
        yield from sorted(versions.glob(f"3.{minor}.*/bin/python3"))[:1]


def outcome(interpreter: Path, *, seed: str) -> list[Any]:
    child = subprocess.run(
        [interpreter, "-S", "-B", "-c", CHILD, ROOT, Path(rfc8785.__file__).parents[1], VECTORS],
        env={"PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    found: list[Any] = json.loads(child.stdout)
    return found


@pytest.mark.parametrize("section", SECTIONS)
def test_the_vectors_are_what_the_scheme_gives(section: str):
    for vector in DOCUMENT[section]:
        assert SECTIONS[section](vector).items() <= vector.items(), vector["name"]


def test_there_are_at_least_forty_and_each_has_a_name_of_its_own():
    assert len(DOCUMENT["content"]) >= 40
    for section in SECTIONS:
        names = [vector["name"] for vector in DOCUMENT[section]]
        assert len(set(names)) == len(names)


@pytest.mark.parametrize("vector", HASHED, ids=lambda vector: vector["name"])
def test_a_hash_is_the_standard_digest_of_its_preimage(vector: dict[str, Any]):
    preimage = vector["preimage"].encode()
    if "key" in vector:
        assert vector["hash"] == hmac.new(bytes.fromhex(vector["key"]), preimage, hashlib.sha256).hexdigest()
    else:
        assert vector["hash"] == hashlib.sha256(preimage).hexdigest()
    assert rfc8785.dumps(json.loads(preimage)) == preimage


def test_two_vectors_share_a_hash_only_where_a_rule_says_that_they_are_equal():
    by_hash: dict[str, list[str]] = {}
    for vector in HASHED:
        by_hash.setdefault(vector["hash"], []).append(vector["name"])

    assert [names for names in by_hash.values() if len(names) > 1] == [
        ["an integer", "a float that is a whole number is that integer"],
        ["zero", "a float zero is zero", "minus zero is zero"],
        ["the smallest integers with a tag", "a float that is 2^53"],
        ["a time", "the same time with another offset"],
    ]


def test_an_entry_has_another_hash_in_another_place_of_a_chain():
    chains = {chain["name"]: chain["hashes"] for chain in DOCUMENT["chains"]}

    three, swapped = chains["three entries"], chains["the last two in the other order"]
    assert three[0] == swapped[0]
    assert {*three[1:]}.isdisjoint(swapped[1:])
    assert {*three}.isdisjoint(chains["three entries with a key"])


@pytest.mark.parametrize("interpreter", [*interpreters()], ids=lambda path: path.parents[1].name)
def test_r65_the_vectors_hold_in_a_fresh_process_with_other_hash_seeds(interpreter: Path):
    for seed in ("0", "1", "4294967295"):
        found, randomized, version = outcome(interpreter, seed=seed)

        assert found == []
        assert randomized == (seed != "0")
        assert version >= [3, 11]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "generate_work_vectors.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_tool_finds_a_vector_that_was_changed_and_does_not_write_over_it(tmp_path: Path):
    changed = json.loads(VECTORS.read_text(encoding="utf-8"))
    changed["content"][0]["hash"] = "0" * 64
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(changed), encoding="utf-8")

    for arguments in (["--check"], []):
        found = run(*arguments, "--file", path)
        assert found.returncode == 1
        assert "content: no attributes: hash is not what the scheme gives" in found.stderr
        assert json.loads(path.read_text(encoding="utf-8"))["content"][0]["hash"] == "0" * 64


def test_the_tool_fills_in_what_a_new_vector_lacks(tmp_path: Path):
    lacking = json.loads(VECTORS.read_text(encoding="utf-8"))
    for section, names in {"content": ["preimage", "hash"], "refused": ["path"], "stored": ["digest"]}.items():
        for name in names:
            del lacking[section][0][name]
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(lacking), encoding="utf-8")

    assert "no hash; run: python tools/generate_work_vectors.py" in run("--check", "--file", path).stderr
    assert run("--file", path).returncode == 0
    assert json.loads(path.read_text(encoding="utf-8")) == DOCUMENT
    assert completed(lacking) == DOCUMENT
    assert complaints(DOCUMENT) == []
