"""Searches: what they say, what is no search, and what they are true of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.cxdb.http_server.cql import (
    OPERATORS,
    Comparison,
    Every,
    Negation,
    Query,
    QueryError,
    Some,
    parse_query,
)
from perdure.adapters.cxdb.http_server.cql_matching import Matching
from perdure.adapters.cxdb.http_server.directory import Described
from perdure.adapters.cxdb.http_server.limits import CQL_CHARS_MAX, CQL_DEPTH_MAX
from perdure.adapters.cxdb.http_server.metadata import Metadata
from perdure.domain.turn import Context

pytestmark = pytest.mark.fast

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = Described(
    context=Context(
        context_id="7",
        head_turn_id="9",
        head_depth=5,
        labels=("made",),
        created_at=datetime(2026, 1, 30, 12, tzinfo=UTC),
    ),
    metadata=Metadata(
        client_tag="Forge",
        title='A "plan"',
        labels=("x", "y"),
        provenance={
            "on_behalf_of": "ann",
            "service_name": "api",
            "host_name": "Box",
            "trace_id": "t1",
            "parent_context_id": 3,
            "root_context_id": 2**63,
        },
    ),
)
NOTHING_SAID = Described(context=Context(context_id="8", head_turn_id="0", head_depth=0), metadata=Metadata())


def tag(value: str) -> Comparison:
    """That the tag is a value."""
    return Comparison(field="tag", operator="=", values=(value,))


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("tag = 'a'", tag("a")),
        ('  tag="a"\n', tag("a")),
        (r"tag = 'it\'s \"\\\n'", tag("it's \"\\\n")),
        ("(tag = 'a')", tag("a")),
        ("((tag = 'a'))", tag("a")),
        ("NOT tag = 'a'", Negation(part=tag("a"))),
        ("not (not tag = 'a')", Negation(part=Negation(part=tag("a")))),
        ("tag = 'a' AND tag = 'b' and tag = 'c'", Every(parts=(tag("a"), tag("b"), tag("c")))),
        ("tag = 'a' or tag = 'b' AND tag = 'c'", Some(parts=(tag("a"), Every(parts=(tag("b"), tag("c")))))),
        ("(tag = 'a' OR tag = 'b') AND tag = 'c'", Every(parts=(Some(parts=(tag("a"), tag("b"))), tag("c")))),
        ("label IN ('a', \"b\")", Comparison(field="label", operator="IN", values=("a", "b"))),
        ("id in (1,2)", Comparison(field="id", operator="IN", values=(1, 2))),
        ("depth >= -3", Comparison(field="depth", operator=">=", values=(-3,))),
        ("is_live = TRUE", Comparison(field="is_live", operator="=", values=(True,))),
        ("created > '-24h'", Comparison(field="created", operator=">", values=(timedelta(hours=24),))),
        ("created > '-5m'", Comparison(field="created", operator=">", values=(timedelta(minutes=5),))),
        (
            "created < '2026-01-30'",
            Comparison(field="created", operator="<", values=(datetime(2026, 1, 30, tzinfo=UTC),)),
        ),
        (
            "created < '2026-01-30T01:00:00+01:00'",
            Comparison(field="created", operator="<", values=(datetime(2026, 1, 30, tzinfo=UTC),)),
        ),
    ],
)
def test_a_search_is_read(text: str, query: Query) -> None:
    assert parse_query(text) == query


@pytest.mark.parametrize(
    ("text", "error_type", "field", "offset"),
    [
        ("", "SyntaxError", None, 0),
        ("tag", "SyntaxError", None, 3),
        ("tag =", "SyntaxError", None, 5),
        ("tag = 'a", "SyntaxError", None, 6),
        ("tag = 'a' tag", "SyntaxError", None, 10),
        ("NOT NOT tag = 'a'", "SyntaxError", None, 4),
        ("(tag = 'a'", "SyntaxError", None, 10),
        ("tag = 'a')", "SyntaxError", None, 9),
        ("tag IN 'a'", "SyntaxError", None, 7),
        ("tag IN ('a' 'b')", "SyntaxError", None, 12),
        ("tag IN ()", "SyntaxError", None, 8),
        ("tag = word", "SyntaxError", None, 6),
        ("tag $ 'a'", "SyntaxError", None, 4),
        ("and", "SyntaxError", None, 0),
        ("nothing = 'a'", "UnknownField", "nothing", 0),
        ("TAG = 'a'", "UnknownField", "TAG", 0),
        ("tag > 'a'", "InvalidOperator", "tag", 4),
        ("is_live != true", "InvalidOperator", "is_live", 8),
        ("depth IN (1)", "InvalidOperator", "depth", 6),
        ("trace_id ^= 'a'", "InvalidOperator", "trace_id", 9),
        ("tag = 5", "InvalidValue", "tag", 6),
        ("tag = true", "InvalidValue", "tag", 6),
        ("id = '5'", "InvalidValue", "id", 5),
        ("depth = 1.5", "InvalidValue", "depth", 8),
        ("id = 123456789012345678901", "InvalidValue", "id", 5),
        ("is_live = 1", "InvalidValue", "is_live", 10),
        ("created > 'yesterday'", "InvalidValue", "created", 10),
        ("created > '24h'", "InvalidValue", "created", 10),
        ("created > 24", "InvalidValue", "created", 10),
    ],
)
def test_what_is_no_search_says_why_and_where(text: str, error_type: str, field: str | None, offset: int) -> None:
    with pytest.raises(QueryError) as caught:
        parse_query(text)
    assert (caught.value.error_type, caught.value.field, caught.value.offset) == (error_type, field, offset)


def test_the_deepest_search_is_read_and_a_deeper_one_refused() -> None:
    def nested(depth: int) -> str:
        return "(" * depth + "tag = 'a'" + ")" * depth

    assert parse_query(nested(CQL_DEPTH_MAX)) == tag("a")
    for depth in (CQL_DEPTH_MAX + 1, (CQL_CHARS_MAX - 9) // 2):
        with pytest.raises(QueryError, match="cql_depth_max"):
            parse_query(nested(depth))


def test_five_thousand_parentheses_are_refused() -> None:
    with pytest.raises(QueryError, match="cql_depth_max"):
        parse_query("(" * 5_000)
    with pytest.raises(QueryError, match="cql_depth_max"):
        parse_query("NOT (" * 1_600)


def test_the_longest_search_is_read_and_a_longer_one_refused() -> None:
    longest = "tag = 'a'".ljust(CQL_CHARS_MAX)
    assert parse_query(longest) == tag("a")
    with pytest.raises(QueryError, match="cql_chars_max"):
        parse_query(longest + " ")


TOKENS = st.lists(
    st.sampled_from(
        [
            *(*OPERATORS, "AND", "or", "NOT", "IN", "(", ")", ",", "=", "!=", "^=", "~=", "^~=", ">", "<="),
            *("'a'", '"b"', "5", "-1", "1.5", "true", "'-1h'", "'-999999d'", "'2026-01-01'", "'", "\\", "€", "\x00"),
        ]
    ),
    max_size=30,
)


@given(st.one_of(st.text(max_size=200), TOKENS.map(" ".join), TOKENS.map("".join)))
def test_any_text_is_a_search_or_a_documented_error(text: str) -> None:
    try:
        query = parse_query(text)
    except QueryError as exc:
        error = exc
    else:
        matching = Matching(now=NOW)
        for one in (ONE, NOTHING_SAID):
            assert matching.is_true(Negation(part=query), one) is not matching.is_true(query, one)
        return
    assert error.error_type in {"SyntaxError", "UnknownField", "InvalidOperator", "InvalidValue"}
    assert error.offset is None or 0 <= error.offset <= len(text)


@pytest.mark.parametrize(
    "text",
    [
        "tag = 'Forge'",
        "tag != 'forge'",
        "tag ^= 'For'",
        "tag ~= 'fORGE'",
        "tag ^~= 'fo'",
        "tag IN ('a', 'Forge')",
        "title = 'A \"plan\"'",
        "user = 'ann' AND service = 'api' AND host = 'Box' AND trace_id = 't1'",
        "host ~= 'box' AND host ^~= 'BO'",
        "label = 'x' AND label = 'y' AND label = 'made' AND label != 'z'",
        "label IN ('z', 'y')",
        "id = 7 AND parent = 3 AND root = 9223372036854775808",
        "id IN (1, 7) AND id != 8",
        "depth = 4 AND depth > 3 AND depth >= 4 AND depth < 5 AND depth <= 4 AND depth != 5",
        "created > '-2d' AND created < '-1h' AND created = '2026-01-30T12:00:00Z'",
        "created > '-999999d'",
        "is_live = false",
        "NOT is_live = true",
        "tag = 'x' OR title ^= 'A'",
        "NOT (tag = 'x' OR title = 'y')",
    ],
)
def test_a_search_is_true_of_what_it_describes(text: str) -> None:
    assert Matching(now=NOW).is_true(parse_query(text), ONE)
    assert not Matching(now=NOW).is_true(parse_query(f"NOT ({text})"), ONE)


def test_what_is_not_said_is_equal_to_nothing() -> None:
    matching = Matching(now=NOW)
    for text in ("tag = ''", "tag ^= ''", "label = 'x'", "parent = 0", "created < '2030-01-01'"):
        assert not matching.is_true(parse_query(text), NOTHING_SAID), text
    for text in ("tag != 'a'", "label != 'x'", "parent != 3", "depth = 0"):
        assert matching.is_true(parse_query(text), NOTHING_SAID), text


def test_the_strict_profile_tells_hosts_apart_by_case() -> None:
    assert not Matching(now=NOW, host_has_case=True).is_true(parse_query("host ~= 'box'"), ONE)
    assert Matching(now=NOW, host_has_case=True).is_true(parse_query("host ~= 'Box' AND tag ~= 'forge'"), ONE)
