"""Requests and answers as Hypothesis draws them: every type, every field up to its edges."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from perdure.adapters.cxdb.codec import requests, responses, turn_lists
from perdure.adapters.cxdb.codec.frames import MessageType

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
hashes = st.binary(min_size=32, max_size=32)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
contents = st.binary(max_size=60)

append_turns = st.builds(
    requests.AppendTurn,
    context_id=u64,
    parent_turn_id=u64,
    declared_type_id=texts,
    declared_type_version=u32,
    encoding=u32,
    compression=u32,
    uncompressed_len=u32,
    content_hash=hashes,
    payload=contents,
    idempotency_key=contents,
    fs_root_hash=st.none() | hashes,
)
asked_requests: st.SearchStrategy[requests.Request] = st.one_of(
    st.builds(requests.Hello, protocol_version=u16, client_tag=texts, client_meta_json=texts),
    st.builds(requests.CreateContext, base_turn_id=u64),
    st.builds(requests.ForkContext, base_turn_id=u64),
    st.builds(requests.GetHead, context_id=u64),
    append_turns,
    st.builds(requests.GetLast, context_id=u64, limit=u32, include_payload=st.booleans()),
    st.builds(requests.GetBefore, context_id=u64, before_turn_id=u64, limit=u32, include_payload=st.booleans()),
    st.builds(requests.GetBlob, content_hash=hashes),
    st.builds(requests.AttachFs, turn_id=u64, fs_root_hash=hashes),
    st.builds(requests.PutBlob, content_hash=hashes, content=contents),
)


def turn_items(payloads: st.SearchStrategy[bytes | None]) -> st.SearchStrategy[turn_lists.TurnItem]:
    """Turns of a list, with what is drawn for their payloads."""
    return st.builds(
        turn_lists.TurnItem,
        turn_id=u64,
        parent_turn_id=u64,
        depth=u32,
        type_id=texts,
        type_version=u32,
        encoding=u32,
        compression=u32,
        uncompressed_len=u32,
        content_hash=hashes,
        payload=payloads,
    )


sent_lists = st.builds(turn_lists.TurnList, items=st.lists(turn_items(contents), max_size=4).map(tuple))


def linked(items: list[turn_lists.TurnItem]) -> tuple[turn_lists.TurnItem, ...]:
    """The same turns, each the parent of the next."""
    parents = [item.turn_id for item in items]
    return (
        *items[:1],
        *(replace(item, parent_turn_id=parent) for item, parent in zip(items[1:], parents, strict=False)),
    )


# An empty list looks the same in all forms and is read as the first, so at least one turn.
bare_lists = st.builds(
    turn_lists.TurnList,
    items=st.lists(turn_items(st.none()), min_size=1, max_size=4).map(linked),
    form=st.sampled_from([turn_lists.PayloadForm.OMITTED, turn_lists.PayloadForm.EMPTIED]),
)
heads = st.builds(responses.ContextHead, context_id=u64, head_turn_id=u64, head_depth=u32)

HASH = b"\x05" * 32
ASKED: dict[MessageType, requests.Request] = {
    MessageType.HELLO: requests.Hello(),
    MessageType.CTX_CREATE: requests.CreateContext(),
    MessageType.CTX_FORK: requests.ForkContext(base_turn_id=1),
    MessageType.GET_HEAD: requests.GetHead(context_id=1),
    MessageType.APPEND_TURN: requests.AppendTurn(
        context_id=1,
        declared_type_id="a.b",
        declared_type_version=1,
        uncompressed_len=0,
        content_hash=HASH,
        payload=b"",
    ),
    MessageType.GET_LAST: requests.GetLast(context_id=1, limit=4),
    MessageType.GET_BEFORE: requests.GetBefore(context_id=1, before_turn_id=9, limit=4),
    MessageType.GET_BLOB: requests.GetBlob(content_hash=HASH),
    MessageType.ATTACH_FS: requests.AttachFs(turn_id=1, fs_root_hash=HASH),
    MessageType.PUT_BLOB: requests.PutBlob(content_hash=HASH, content=b""),
}
BARE = requests.GetLast(context_id=1, limit=4, include_payload=False)

# A request of each type, and an answer that fits it.
exchanges: st.SearchStrategy[tuple[requests.Request, responses.Answer]] = st.one_of(
    st.tuples(
        st.just(ASKED[MessageType.HELLO]), st.builds(responses.HelloAnswer, session_id=u64, protocol_version=u16)
    ),
    st.tuples(
        st.sampled_from([ASKED[MessageType(number)] for number in (2, 3, 4)]),
        heads,
    ),
    st.tuples(
        st.just(ASKED[MessageType.APPEND_TURN]),
        st.builds(responses.TurnAppended, context_id=u64, turn_id=u64, depth=u32, content_hash=hashes),
    ),
    st.tuples(st.sampled_from([ASKED[MessageType.GET_LAST], ASKED[MessageType.GET_BEFORE]]), sent_lists),
    st.tuples(st.just(BARE), bare_lists),
    st.tuples(st.just(ASKED[MessageType.GET_BLOB]), st.builds(responses.BlobContent, content=contents)),
    st.tuples(st.just(ASKED[MessageType.ATTACH_FS]), st.builds(responses.FsAttached, turn_id=u64, fs_root_hash=hashes)),
    st.tuples(
        st.just(ASKED[MessageType.PUT_BLOB]),
        st.builds(responses.BlobStored, content_hash=hashes, was_new=st.booleans()),
    ),
)
