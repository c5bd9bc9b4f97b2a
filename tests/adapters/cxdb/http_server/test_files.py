"""The tree of files at a turn, over HTTP."""

from __future__ import annotations

import pytest

from perdure.adapters.cxdb.http_server.limits import FS_PARTS_MAX
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.tree import EntryKind, TreeEntry, encode_tree
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.adapters.cxdb.http_server.http_servers import IMPROVED, NOWHERE, STRICT, Talk, check_error, talking

BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])


async def put(talk: Talk, content: bytes) -> bytes:
    """Keep bytes; their address, raw."""
    return bytes.fromhex(await talk.store.put_blob(talk.world.space, content, timeout_s=TIMEOUT_S))


async def attached(talk: Talk, root: bytes | None = None) -> tuple[str, str]:
    """A turn with a tree; its id, and the address of the tree."""
    if root is None:
        script = TreeEntry(name="run.py", mode=0o755, size=5, hash=await put(talk, b"print"))
        page = TreeEntry(name="a b#1.html", mode=0o644, size=4, hash=await put(talk, b"<p/>"))
        packed = TreeEntry(name="x.tar.gz", mode=0o644, size=2, hash=await put(talk, b"gz"))
        inner = encode_tree([TreeEntry(name="é.txt", mode=0o600, size=1, hash=await put(talk, b"e"))])
        folder = TreeEntry(name="src", kind=EntryKind.DIRECTORY, mode=0o755, hash=await put(talk, inner))
        link = TreeEntry(name="link", kind=EntryKind.SYMLINK, mode=0o777, size=6, hash=await put(talk, b"run.py"))
        lost = TreeEntry(name="lost", hash=b"\x01" * 32)
        root = encode_tree([script, page, packed, folder, link, lost])
    digest = (await put(talk, root)).hex()
    turn = await talk.say(await talk.begin(), {1: "x"})
    await talk.store.attach(talk.world.space, turn.turn_id, digest, timeout_s=TIMEOUT_S)
    return turn.turn_id, digest


@BOTH
async def test_a_directory_is_listed(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, root = await attached(talk)
        listed = await talk.get(f"/v1/turns/{turn_id}/fs")
        assert (str(listed["turn_id"]), listed["path"], listed["fs_root_hash"]) == (turn_id, "", root)
        names = [entry["name"] for entry in listed["entries"]]
        assert names == ["a b#1.html", "link", "lost", "run.py", "src", "x.tar.gz"]
        script = listed["entries"][3]
        assert (script["kind"], script["mode"], script["size"], len(script["hash"])) == ("file", "755", 5, 64)
        assert [entry["kind"] for entry in listed["entries"]] == ["file", "symlink", "file", "file", "dir", "file"]
        inner = await talk.get(f"/v1/turns/{turn_id}/fs", path="src")
        assert (inner["path"], [entry["name"] for entry in inner["entries"]]) == ("src", ["é.txt"])
        assert await talk.get(f"/v1/turns/{turn_id}/fs/src") == inner


@BOTH
async def test_a_file_comes_as_it_is(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, _ = await attached(talk)
        answer = await talk.http.get(f"/v1/turns/{turn_id}/fs/run.py")
        assert (answer.status_code, answer.content) == (200, b"print")
        assert answer.headers["content-type"] == "text/x-python"
        assert answer.headers["x-fs-mode"] == "755"
        assert answer.headers["x-fs-hash"] == (await put(talk, b"print")).hex()
        shown = await talk.get(f"/v1/turns/{turn_id}/fs/run.py", format="json")
        assert (shown["path"], shown["name"], shown["content_base64"]) == ("run.py", "run.py", "cHJpbnQ=")
        link = await talk.http.get(f"/v1/turns/{turn_id}/fs/link")
        assert (link.text, link.headers["content-type"]) == ("run.py", "text/plain")
        packed = await talk.http.get(f"/v1/turns/{turn_id}/fs/x.tar.gz")
        assert packed.headers["content-type"] == "application/octet-stream"


async def test_names_are_decoded_but_not_in_the_strict_profile() -> None:
    async with talking() as talk:
        turn_id, _ = await attached(talk)
        for path in ("src/%C3%A9.txt", "s%72c/%C3%A9.txt", "a%20b%231.html"):
            assert (await talk.http.get(f"/v1/turns/{turn_id}/fs/{path}")).status_code == 200, path
        check_error(await talk.http.get(f"/v1/turns/{turn_id}/fs/%ff"), 422, says="UTF-8")
        async with talking(STRICT, world=talk.world, store=talk.store) as strict:
            for path in ("a%20b%231.html", "s%72c"):
                check_error(await strict.http.get(f"/v1/turns/{turn_id}/fs/{path}"), 404)


@BOTH
async def test_a_page_that_was_kept_cannot_do_anything_here(profile: Profile) -> None:
    async with talking(profile) as talk:
        page = TreeEntry(name="x.html", mode=0o644, size=4, hash=await put(talk, b"<p/>"))
        turn_id, _ = await attached(talk, encode_tree([page]))
        answer = await talk.http.get(f"/v1/turns/{turn_id}/fs/x.html")
        assert answer.headers["content-type"] == "text/html"
        assert answer.headers["content-security-policy"] == "sandbox"
        assert answer.headers["x-content-type-options"] == "nosniff"


@BOTH
async def test_a_path_that_leads_nowhere_is_an_error(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, _ = await attached(talk)
        base = f"/v1/turns/{turn_id}/fs"
        for path, status in (
            ("/missing", 404),
            ("/src/missing", 404),
            ("/lost", 404),
            ("/run.py/x", 422),
            ("/link/x", 422),
            ("/", 422),
            ("/src/", 422),
            ("/src//x", 422),
        ):
            check_error(await talk.http.get(base + path), status)
        check_error(await talk.http.get(base, params={"path": "run.py"}), 422)
        check_error(await talk.http.get(base, params={"path": "missing"}), 404)
        for path in ("..", "src/../run.py", "src/./x", "a\0b"):
            check_error(await talk.http.get(base, params={"path": path}), 422)
        bare = (await talk.say(await talk.begin(), {1: "x"})).turn_id
        check_error(await talk.http.get(f"/v1/turns/{bare}/fs"), 404, says="no fs snapshot for turn")
        check_error(await talk.http.get(f"/v1/turns/{NOWHERE}/fs"), 404, says="turn")
        check_error(await talk.http.get("/v1/turns/x/fs"), 422)


async def test_dots_that_are_encoded_are_refused_too() -> None:
    async with talking() as talk:
        turn_id, _ = await attached(talk)
        for path in ("%2e%2e", "src%2Frun.py", "%2e", "src/%2E%2e/run.py", "x%00"):
            check_error(await talk.http.get(f"/v1/turns/{turn_id}/fs/{path}"), 422)


@BOTH
async def test_a_path_has_so_many_parts_and_no_more(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, _ = await attached(talk)
        base = f"/v1/turns/{turn_id}/fs"
        check_error(await talk.http.get(base + "/x" * FS_PARTS_MAX), 404)
        check_error(await talk.http.get(base + "/x" * (FS_PARTS_MAX + 1)), 422, says="fs_parts_max")


@BOTH
async def test_what_is_no_tree_is_the_stores_fault(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, _ = await attached(talk, b"no tree")
        check_error(await talk.http.get(f"/v1/turns/{turn_id}/fs"), 500)
        without_hash = b"\x91\x82\xa11\xa1x\xa12\x00"
        turn_id, _ = await attached(talk, without_hash)
        check_error(await talk.http.get(f"/v1/turns/{turn_id}/fs/x"), 500)
        turn_id, _ = await attached(talk, b"\xc0")
        assert (await talk.get(f"/v1/turns/{turn_id}/fs"))["entries"] == []


@BOTH
async def test_a_later_turn_has_the_files_of_the_one_before(profile: Profile) -> None:
    async with talking(profile) as talk:
        turn_id, root = await attached(talk)
        fork = await talk.begin(base=turn_id)
        later = await talk.say(fork, {1: "y"})
        assert (await talk.get(f"/v1/turns/{later.turn_id}/fs"))["fs_root_hash"] == root
