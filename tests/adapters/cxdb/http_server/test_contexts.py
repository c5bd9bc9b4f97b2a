"""Contexts over HTTP: the list, one of them, where it comes from, and the search."""

from __future__ import annotations

from typing import Any

import pytest

from perdure.adapters.cxdb.http import CxdbHttp, HttpAddress
from perdure.adapters.cxdb.http_server import directory
from perdure.adapters.cxdb.http_server.directory import ContextDirectory
from perdure.adapters.cxdb.http_server.limits import SCAN_CONTEXTS_MAX
from perdure.adapters.cxdb.http_server.metadata import NOTHING
from perdure.adapters.cxdb.http_server.serving_state import Served
from perdure.adapters.cxdb.server.settings import Profile
from perdure.domain.turn import CONTEXT_NUMBER_MAX, CONTEXTS_PAGE_MAX, Context
from perdure.testing.contracts.stores import TIMEOUT_S
from tests.adapters.cxdb.http_server.http_servers import (
    IMPROVED,
    NOWHERE,
    STRICT,
    Talk,
    World,
    check_error,
    ids,
    talking,
)

BOTH = pytest.mark.parametrize("profile", [IMPROVED, STRICT])
START_MS = 1_767_225_600_000  # where the clock of a test begins


def metadata(**said: Any) -> dict[int, Any]:
    """A first turn that says something about its context."""
    tags = {"client_tag": 1, "title": 2, "labels": 3, "provenance": 10}
    return {1: "x", 30: {tags[name]: value for name, value in said.items()}}


async def named(talk: Talk, **said: Any) -> Context:
    """A context whose first turn says something."""
    context = await talk.begin()
    await talk.say(context, metadata(**said))
    return context


@BOTH
async def test_there_may_be_no_contexts(profile: Profile) -> None:
    async with talking(profile) as talk:
        listed = await talk.get("/v1/contexts")
        assert (listed.pop("truncated", False), listed.pop("next_cursor", None)) == (False, None)
        assert listed == {"contexts": [], "count": 0, "active_sessions": [], "active_tags": []}


async def test_contexts_are_listed_the_last_made_first_with_what_they_say() -> None:
    async with talking() as talk:
        first = await talk.begin(labels=("made",))
        talk.world.clock.advance(1.0)
        second = await named(talk, client_tag="forge", title="A plan", labels=["x"], provenance={1: 7, 10: "t"})
        talk.world.clock.advance(1.0)
        turn = await talk.say(second, {1: "y"})
        listed = await talk.get("/v1/contexts", include_provenance=1)
        assert listed["count"] == 2
        newest, oldest = listed["contexts"]
        provenance = newest.pop("provenance")
        assert newest == {
            "context_id": second.context_id,
            "head_turn_id": turn.turn_id,
            "head_depth": 1,
            "created_at_unix_ms": START_MS + 1_000,
            "last_activity_at": START_MS + 2_000,
            "is_live": False,
            "client_tag": "forge",
            "title": "A plan",
            "labels": ["x"],
        }
        assert (len(provenance), provenance["parent_context_id"], provenance["trace_id"]) == (25, "7", "t")
        assert oldest == {
            "context_id": first.context_id,
            "head_turn_id": "0",
            "head_depth": 0,
            "created_at_unix_ms": START_MS,
            "last_activity_at": START_MS,
            "is_live": False,
            "labels": ["made"],
            "provenance": None,
        }


async def test_in_the_strict_profile_the_last_active_comes_first_with_numbers_for_ids() -> None:
    async with talking(STRICT) as talk:
        first, second = await talk.begin(), await talk.begin()
        await talk.fill(second, 1)
        talk.world.clock.advance(5.0)
        await talk.fill(first, 1)
        listed = (await talk.get("/v1/contexts"))["contexts"]
        assert ids(listed, "context_id") == [int(first.context_id), int(second.context_id)]
        assert [one["created_at_unix_ms"] for one in listed] == [START_MS + 5_000, START_MS]
        assert "last_activity_at" not in listed[0]


async def test_a_list_has_twenty_contexts_or_as_many_as_asked() -> None:
    async with talking() as talk:
        made = [(await talk.begin()).context_id for _ in range(25)]
        assert ids((await talk.get("/v1/contexts"))["contexts"], "context_id") == made[:4:-1]
        assert (await talk.get("/v1/contexts", limit=0))["contexts"] == []
        assert (await talk.get("/v1/contexts", limit=SCAN_CONTEXTS_MAX))["count"] == 25
        check_error(await talk.http.get("/v1/contexts", params={"limit": SCAN_CONTEXTS_MAX + 1}), 422, says="limit")
        check_error(await talk.http.get("/v1/contexts", params={"limit": "x"}), 422, says="limit")
        async with talking(STRICT, world=talk.world, store=talk.store) as strict:
            assert (await strict.get("/v1/contexts", limit="x"))["count"] == 20
            assert (await strict.get("/v1/contexts", limit=2**32 - 1))["count"] == 25


@pytest.mark.parametrize(("profile", "found"), [(IMPROVED, 1), (STRICT, 0)])
async def test_a_tag_is_looked_for_in_all_or_in_the_strict_profile_in_the_page(profile: Profile, found: int) -> None:
    async with talking(profile) as talk:
        await named(talk, client_tag="forge")
        talk.world.clock.advance(1.0)
        await named(talk, client_tag="other")
        assert (await talk.get("/v1/contexts", tag="forge", limit=1))["count"] == found
        assert (await talk.get("/v1/contexts", tag="forge"))["count"] == 1


async def test_contexts_are_found_by_the_labels_that_they_were_made_with() -> None:
    async with talking() as talk:
        await talk.begin()
        labelled = await talk.begin(labels=("a b",))
        found = await talk.get("/v1/contexts", label="a b")
        assert ids(found["contexts"], "context_id") == [labelled.context_id]
        assert (await talk.get("/v1/contexts", label="other"))["contexts"] == []
        await named(talk, provenance={1: int(labelled.context_id)})
        (shown,) = (await talk.get("/v1/contexts", label="a b", include_lineage=1))["contexts"]
        assert shown["lineage"]["child_context_count"] == 1
        check_error(await talk.http.get("/v1/contexts", params={"label": ""}), 422)


async def test_a_fork_says_what_its_source_says_until_it_says_something_itself() -> None:
    async with talking() as talk:
        source = await named(talk, title="source")
        head = (await talk.say(source, {1: "y"})).turn_id
        fork = await talk.begin(base=head)
        path = f"/v1/contexts/{fork.context_id}"
        assert (await talk.get(path))["title"] == "source"
        await talk.say(fork, metadata(title="fork"))
        assert (await talk.get(path))["title"] == "fork"
        further = await talk.begin(base=(await talk.get(path))["head_turn_id"])
        assert (await talk.get(f"/v1/contexts/{further.context_id}"))["title"] == "fork"


@BOTH
async def test_metadata_is_there_for_who_looked_before_the_first_turn(profile: Profile) -> None:
    async with talking(profile) as talk:
        context = await talk.begin()
        path = f"/v1/contexts/{context.context_id}"
        assert "title" not in await talk.get(path)
        await talk.get("/v1/contexts")
        await talk.say(context, metadata(title="late"))
        assert (await talk.get(path))["title"] == "late"
        assert (await talk.get("/v1/contexts"))["contexts"][0]["title"] == "late"


@BOTH
async def test_a_context_shows_its_provenance_and_lineage_unless_told_not_to(profile: Profile) -> None:
    async with talking(profile) as talk:
        parent = await talk.begin()
        said = {1: int(parent.context_id), 2: "delegation", 3: 2**64 - 1}
        child = await named(talk, provenance=said)
        query = {"u64_format": "string"} if profile is IMPROVED else {}
        shown = await talk.get(f"/v1/contexts/{child.context_id}", **query)
        assert str(shown["provenance"]["parent_context_id"]) == parent.context_id
        lineage = shown["lineage"]
        assert {name: str(value) for name, value in lineage.items()} == {
            "parent_context_id": parent.context_id,
            "root_context_id": str(2**64 - 1),
            "spawn_reason": "delegation",
            "child_context_count": "0",
            "child_context_ids": "[]",
        }
        lineage = (await talk.get(f"/v1/contexts/{parent.context_id}"))["lineage"]
        assert [str(each) for each in lineage["child_context_ids"]] == [child.context_id]
        assert lineage["child_context_count"] == 1
        listed = (await talk.get("/v1/contexts", include_lineage=1))["contexts"]
        lineages = {str(one["context_id"]): one["lineage"] for one in listed}
        assert lineages[parent.context_id] == lineage
        assert str(lineages[child.context_id]["parent_context_id"]) == parent.context_id
        bare = await talk.get(f"/v1/contexts/{child.context_id}", include_provenance=0, include_lineage=0)
        assert not {"provenance", "lineage"} & set(bare)


@pytest.mark.parametrize(("profile", "count"), [(IMPROVED, 1), (STRICT, 0)])
async def test_a_fork_is_a_child_of_its_source_but_not_in_the_strict_profile(profile: Profile, count: int) -> None:
    async with talking(profile) as talk:
        source = await talk.begin()
        (head,) = await talk.fill(source, 1)
        await talk.begin(base=head)
        shown = await talk.get(f"/v1/contexts/{source.context_id}")
        assert shown["lineage"]["child_context_count"] == count


@BOTH
async def test_a_context_that_is_not_there_is_not_found(profile: Profile) -> None:
    async with talking(profile) as talk:
        for path in (NOWHERE, "77", f"{NOWHERE}/provenance"):
            check_error(await talk.http.get(f"/v1/contexts/{path}"), 404, says="context")
        for path in ("x", "18446744073709551616", "x/provenance"):
            check_error(await talk.http.get(f"/v1/contexts/{path}"), 422)


@BOTH
async def test_provenance_is_shown_or_null(profile: Profile) -> None:
    async with talking(profile) as talk:
        silent, speaking = await talk.begin(), await named(talk, provenance={40: "api"})
        shown = await talk.get(f"/v1/contexts/{silent.context_id}/provenance")
        assert (str(shown["context_id"]), shown["provenance"]) == (silent.context_id, None)
        shown = await talk.get(f"/v1/contexts/{speaking.context_id}/provenance")
        assert shown["provenance"]["service_name"] == "api"


@BOTH
async def test_a_search_finds_what_it_describes_ids_descending(profile: Profile) -> None:
    async with talking(profile) as talk:
        plans = [await named(talk, client_tag="forge", title=f"Plan {number}", labels=["x"]) for number in range(3)]
        await named(talk, client_tag="other")
        found = await talk.get("/v1/contexts/search", q="tag = 'forge' AND title ^~= 'plan' AND label = 'x'", limit=2)
        assert [str(each) for each in ids(found["contexts"], "context_id")] == [
            plans[2].context_id,
            plans[1].context_id,
        ]
        assert (found["total_count"], found["elapsed_ms"]) == (3, 0)
        assert found["query"] == "tag = 'forge' AND title ^~= 'plan' AND label = 'x'"
        assert set(found["contexts"][0]) == {
            *("context_id", "head_turn_id", "head_depth", "created_at_unix_ms", "is_live", "client_tag", "title")
        }
        assert (await talk.get("/v1/contexts/search", q="created > '-1h' AND depth = 0"))["total_count"] == 4
        talk.world.clock.advance(7_200)
        assert (await talk.get("/v1/contexts/search", q="created > '-1h'"))["total_count"] == 0


@BOTH
async def test_what_is_no_search_is_answered_with_its_place(profile: Profile) -> None:
    async with talking(profile) as talk:
        answer = await talk.http.get("/v1/contexts/search")
        assert (answer.status_code, answer.json()) == (400, {"error": "Missing required 'q' parameter"})
        answer = await talk.http.get("/v1/contexts/search", params={"q": "tag = 'a'\nAND title > 'b'"})
        assert answer.status_code == 400
        body = answer.json()
        assert isinstance(body.pop("error"), str)
        position = {"line": 2, "column": 11, "offset": 20}
        assert body == {"error_type": "InvalidOperator", "field": "title", "position": position}
        for query in ("(" * 5_000, "(" * 5_000 + "tag = 'a'" + ")" * 5_000, "x" * 9_000):
            answer = await talk.http.get("/v1/contexts/search", params={"q": query})
            assert (answer.status_code, answer.json()["error_type"]) == (400, "SyntaxError")
        assert (await talk.http.get("/healthz")).text == "ok"


async def test_a_list_that_looked_at_all_it_may_says_so_and_where_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SCAN_CONTEXTS_MAX", 3)
    async with talking() as talk:
        made = [(await talk.begin()).context_id for _ in range(3)]
        listed = await talk.get("/v1/contexts")
        assert (listed["truncated"], listed["next_cursor"]) == (False, None)
        made += [(await talk.begin()).context_id for _ in range(4)]
        for path, query in (("/v1/contexts", {}), ("/v1/contexts/search", {"q": "depth = 0"})):
            pages: list[list[str]] = []
            cursor: dict[str, str] = {}
            while True:
                found = await talk.get(path, **query, **cursor)
                pages.append(ids(found["contexts"], "context_id"))
                assert found["truncated"] == (found["next_cursor"] is not None)
                if not found["truncated"]:
                    break
                cursor = {"cursor": found["next_cursor"]}
            assert [len(page) for page in pages] == [3, 3, 1]
            assert sorted(context_id for page in pages for context_id in page) == sorted(made)
        check_error(await talk.http.get("/v1/contexts", params={"cursor": "x"}), 422)


async def test_our_client_finds_a_label_behind_what_one_search_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SCAN_CONTEXTS_MAX", 3)
    async with talking() as talk:
        client = CxdbHttp(HttpAddress(base_url=f"http://127.0.0.1:{talk.port}"), redact=str)
        for _ in range(3):
            await named(talk, labels=["other"])
        assert list(await client.search("x", timeout_s=TIMEOUT_S)) == []
        late = [await named(talk, labels=["x"]) for _ in range(5)]
        found = await client.search("x", timeout_s=TIMEOUT_S)
        assert [str(head.context_id) for head in found] == [context.context_id for context in late]
        await client.close()


async def test_in_the_strict_profile_an_answer_is_about_all_contexts_or_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(directory, "SCAN_CONTEXTS_MAX", 2)
    monkeypatch.setattr(directory, "SCAN_WHOLE_CONTEXTS_MAX", 4)
    async with talking(STRICT) as talk:
        made = [await talk.begin() for _ in range(4)]
        paths = ("/v1/contexts", "/v1/contexts/search?q=depth+%3D+0", f"/v1/contexts/{made[0].context_id}")
        assert (await talk.get("/v1/contexts"))["count"] == 4
        assert (await talk.get("/v1/contexts/search", q="depth = 0"))["total_count"] == 4
        await talk.begin()
        for path in (*paths, f"/v1/contexts/{made[0].context_id}/children"):
            check_error(await talk.http.get(path), 422, says="scan_whole_contexts_max")
        assert (await talk.get(paths[2], include_lineage=0))["head_depth"] == 0


async def test_a_lineage_of_a_part_of_the_contexts_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "SCAN_CONTEXTS_MAX", 2)
    async with talking() as talk:
        first = await talk.begin()
        await named(talk, provenance={1: int(first.context_id)})
        path = f"/v1/contexts/{first.context_id}"
        assert "truncated" not in (await talk.get(path))["lineage"]
        await named(talk, provenance={1: int(first.context_id)})
        assert (await talk.get(path))["lineage"]["truncated"] is True
        assert (await talk.get(f"{path}/children"))["count"] == 2


@BOTH
async def test_children_are_shown_as_contexts_are_oldest_first(profile: Profile) -> None:
    async with talking(profile) as talk:
        root = await talk.begin()
        children = [await named(talk, provenance={1: int(root.context_id)}, title=str(n)) for n in range(3)]
        grandchild = await named(talk, provenance={1: int(children[0].context_id)})
        path = f"/v1/contexts/{root.context_id}/children"
        found = await talk.get(path)
        assert [str(one["context_id"]) for one in found["children"]] == [one.context_id for one in children]
        assert (str(found["context_id"]), found["recursive"], found["count"]) == (root.context_id, False, 3)
        shown = found["children"][0]
        assert shown == await talk.get(f"/v1/contexts/{children[0].context_id}")
        assert (shown["title"], shown["lineage"]["child_context_count"]) == ("0", 1)
        bare = (await talk.get(path, include_provenance=0, include_lineage=0))["children"][0]
        assert not {"provenance", "lineage"} & set(bare)
        for word in ("1", "true"):
            everyone = await talk.get(path, recursive=word)
            assert (everyone["recursive"], everyone["count"]) == (True, 4)
            assert str(everyone["children"][-1]["context_id"]) == grandchild.context_id
        assert (await talk.get(path, limit=2))["count"] == 2
        assert (await talk.get(f"/v1/contexts/{grandchild.context_id}/children"))["children"] == []
        check_error(await talk.http.get(f"/v1/contexts/{NOWHERE}/children"), 404, says="context")
        check_error(await talk.http.get("/v1/contexts/x/children"), 422)


async def test_children_that_are_each_others_parents_are_shown_once() -> None:
    async with talking() as talk:
        first, second = await talk.begin(), await talk.begin()
        await talk.say(first, metadata(provenance={1: int(second.context_id)}))
        await talk.say(second, metadata(provenance={1: int(first.context_id)}))
        found = await talk.get(f"/v1/contexts/{first.context_id}/children", recursive=1)
        assert ids(found["children"], "context_id") == [second.context_id]
        cut = await talk.get(f"/v1/contexts/{first.context_id}/children", limit=0)
        assert (found["truncated"], cut["truncated"], cut["count"]) == (False, True, 0)


async def test_metadata_is_kept_for_so_many_contexts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "METADATA_KNOWN_MAX", 2)
    async with talking() as talk:
        for number in range(4):
            await named(talk, title=str(number))
        for _ in range(2):
            titles = [one["title"] for one in (await talk.get("/v1/contexts"))["contexts"]]
            assert titles == ["3", "2", "1", "0"]


async def test_all_contexts_are_looked_at_however_many_pages_they_fill() -> None:
    async with talking() as talk:
        made = [(await talk.begin()).context_id for _ in range(CONTEXTS_PAGE_MAX + 20)]
        listed = await talk.get("/v1/contexts", limit=SCAN_CONTEXTS_MAX)
        assert ids(listed["contexts"], "context_id") == made[::-1]
        assert (await talk.get("/v1/contexts/search", q="depth = 0"))["total_count"] == len(made)


@pytest.mark.parametrize("context_id", [str(CONTEXT_NUMBER_MAX), str(CONTEXT_NUMBER_MAX + 1), NOWHERE])
async def test_a_context_whose_first_turn_is_not_found_by_its_id_says_nothing(context_id: str) -> None:
    world = World()
    served = Served(store=await world.open_store(), space=world.space, clock=world.clock)
    foreign = Context(context_id=context_id, head_turn_id="5", head_depth=1)
    (described,) = await ContextDirectory(served).describe([foreign], served.deadline())
    assert described.metadata == NOTHING
