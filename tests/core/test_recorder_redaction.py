"""Secrets are taken out before anything is encoded or hashed: no byte of one is ever kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from perdure.core.recorder_redaction import REDACTED, DefaultRedaction, names_secret, secret_spans
from perdure.core.run_journal import RunJournal
from perdure.core.session_journal import SessionJournal, ToolCall
from perdure.domain import canonical
from perdure.domain.turn import content_hash
from perdure.errors import Invalid, PersistenceError
from tests.support.recorded_turns import FaultyTurns, Kept, every_context, records_of, watched
from tests.support.scripted_session import Script, Words

PASSWORD = "hunter2-correct-horse"
SECRETS = {
    "openai": "sk-proj-abcdefghij0123456789ABCDEFGHIJ",
    "github": "ghp_0123456789abcdefghij0123456789abcdef",
    "aws": "AKIAIOSFODNN7EXAMPLE",
    "slack": "xoxb-123456789012-abcdefghijkl",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}
SECRET_WORDS = Words(
    prompt=f"Use {SECRETS['openai']} for it. password: {PASSWORD}",
    tool_arguments={
        "headers": {"Authorization": f"Bearer {PASSWORD}"},
        "api_key": PASSWORD,
        "command": f"x {SECRETS['github']}",
    },
    tool_output=f"env\nDB_PASSWORD={PASSWORD}\nurl=https://ada:{PASSWORD}@host/\n{SECRETS['aws']}\n" + "x" * 50_000,
    shown=f"env\nDB_PASSWORD={PASSWORD}\nurl=https://ada:{PASSWORD[:9]}",
    failure=f"401 for token={PASSWORD}; {SECRETS['jwt']}",
    dot=(
        f'digraph g {{ a [prompt="secret=\\"{PASSWORD}\\"", api_key="{PASSWORD}"]; '
        f"b [token={PASSWORD.replace('-', '_')}] }}"
    ),
    graph={"nodes": [{"id": "a", "attrs": {"api_key": PASSWORD, "prompt": f"use {SECRETS['github']}"}}]},
    title=f"A run with {SECRETS['slack']}",
)


async def test_d11_no_secret_reaches_a_stored_byte_wherever_it_stood() -> None:
    kept = Kept()
    turns = await kept.client()
    await Script(watched(turns, mode="required").recorder, SECRET_WORDS).tell()
    stored = kept.all_bytes()
    for secret in (PASSWORD, PASSWORD[:9], PASSWORD.replace("-", "_"), *SECRETS.values()):
        assert secret.encode() not in stored, secret[:4]
    assert REDACTED.encode() in stored
    run, *_ = await every_context(turns)
    dot = (await records_of(turns, run.context_id))[0].values
    assert dot["redacted"] == 4  # three in the text, one in the title
    assert dot["source_hash"] == content_hash(SECRET_WORDS.dot.encode())
    assert dot["content_hash"] == content_hash(dot["dot_source"].encode()) != dot["source_hash"]
    assert dot["size_bytes"] == len(dot["dot_source"])


async def test_d11_without_redaction_they_do_so_that_the_scan_sees_them() -> None:
    kept = Kept()
    turns = await kept.client()
    await Script(watched(turns, mode="required", redact="off").recorder, SECRET_WORDS).tell()
    stored = kept.all_bytes()
    assert all(secret.encode() in stored for secret in (PASSWORD, *SECRETS.values()))
    run, *_ = await every_context(turns)
    assert "redacted" not in (await records_of(turns, run.context_id))[0].values


async def test_d11_a_redactor_of_ones_own_sees_every_record_and_what_it_changed_is_counted() -> None:
    seen: dict[str, set[str]] = {}

    def redact(record_type: str, payload: dict[str, object]) -> Mapping[str, object]:
        seen.setdefault(record_type, set()).update(payload)
        text = json.dumps(payload)
        cleaned: dict[str, object] = json.loads(text.replace("Plan", "P***"))
        return cleaned

    kept = Kept()
    turns = await kept.client()
    words = Words()
    await Script(watched(turns, mode="required", redact=redact).recorder, words).tell()
    assert b"Plan" not in kept.all_bytes()
    assert seen["forge.agent.user_turn"] == {"content"}
    assert {"arguments", "output", "call_id"} <= seen["forge.agent.event"]
    assert not any(name in seen["forge.agent.event"] for name in ("idempotency_key", "run_id", "timestamp"))
    _, session, *_ = await every_context(turns)
    said = await records_of(turns, session.context_id)
    assert [record.values["redacted"] for record in said[:4]] == [0, 0, 1, 0]
    assert words.tool_arguments == Words().tool_arguments


async def test_d11_what_a_redactor_fails_for_is_not_written_and_its_error_shows_nothing() -> None:
    def redact(record_type: str, payload: dict[str, object]) -> Mapping[str, object]:
        if record_type == "forge.agent.user_turn":
            raise ValueError(f"cannot redact {payload}")
        return payload

    for mode in ("best_effort", "required"):
        kept = Kept()
        turns = FaultyTurns(await kept.client())
        told = watched(turns, mode=mode, redact=redact)
        session = SessionJournal(told.recorder, session_id="s")
        if mode == "required":
            with pytest.raises(PersistenceError) as failed:
                await session.user_turn_appended(content=PASSWORD)
            message, cause = failed.value.message, failed.value.__cause__
            assert cause is None
        else:
            assert await session.user_turn_appended(content=PASSWORD) is None
            (warning,) = told.warnings
            message = warning.message
            assert (warning.step, warning.code) == ("redact", "persistence_error")
            assert await session.system_turn_appended(content="Fine.") is not None
        assert "ValueError" in message
        assert PASSWORD not in message
        assert PASSWORD.encode() not in kept.all_bytes()


async def test_a_redactor_may_change_a_text_and_not_take_it_out() -> None:
    def redact(_: str, payload: dict[str, object]) -> Mapping[str, object]:
        return {name: value for name, value in payload.items() if name not in {"dot_source", "output", "results"}}

    told = watched(await Kept().client(), mode="best_effort", redact=redact)
    await RunJournal(told.recorder, run_id="run-1", graph_id="g").dot_source_persisted(dot_source="digraph {}")
    session = SessionJournal(told.recorder, session_id="s")
    await session.tool_call_ended(call_id="c", tool_name="t", output="x", duration_ms=1)
    await session.tool_results_turn_appended(results=[])
    assert [(warning.step, warning.code) for warning in told.warnings] == [("encode", "invalid")] * 3
    assert "took dot_source out" in told.warnings[0].message


async def test_an_error_of_ours_that_a_redactor_raises_shows_nothing_either() -> None:
    def redact(record_type: str, payload: dict[str, object]) -> Mapping[str, object]:
        if record_type == "message":
            return payload
        raise Invalid(f"cannot redact {payload}")

    told = watched(await Kept().client(), mode="best_effort", redact=redact)
    await SessionJournal(told.recorder, session_id="s").user_turn_appended(content=PASSWORD)
    (warning,) = told.warnings
    assert warning.code == "invalid"
    assert PASSWORD not in warning.message


async def test_a_redactor_that_changes_what_it_is_given_changes_nothing_of_the_caller() -> None:
    def redact(_: str, payload: dict[str, Any]) -> Mapping[str, object]:
        if "arguments" in payload:
            payload["arguments"]["paths"].append("added")
            payload["arguments"]["secret"] = "gone"
        return payload

    turns = await Kept().client()
    session = SessionJournal(watched(turns, mode="required", redact=redact).recorder, session_id="s")
    arguments: dict[str, Any] = {"secret": PASSWORD, "paths": ["a"]}
    await session.tool_call_started(call=ToolCall(call_id="c", name="t", arguments=arguments))
    assert arguments == {"secret": PASSWORD, "paths": ["a"]}
    (record,) = await records_of(turns, session.context_id or "")
    assert record.values["arguments"] == {"secret": "gone", "paths": ["a", "added"]}
    assert record.values["redacted"] == 2


@pytest.mark.parametrize("result", [None, "text", {1: "number"}])
async def test_a_redactor_that_gives_no_payload_has_failed(result: Any) -> None:
    told = watched(await Kept().client(), mode="best_effort", redact=lambda _type, _payload: result)
    assert await SessionJournal(told.recorder, session_id="s").user_turn_appended(content="Hello.") is None
    assert [warning.step for warning in told.warnings] == ["redact"]


async def test_d11_messages_of_errors_are_redacted_too() -> None:
    class Chatty(FaultyTurns):
        async def append(self, *_: Any, **_rest: Any) -> Any:
            raise PersistenceError(f"cannot keep {SECRETS['openai']}, password={PASSWORD}")

    told = watched(Chatty(await Kept().client()), mode="best_effort")
    await SessionJournal(told.recorder, session_id="s").user_turn_appended(content="Hello.")
    (warning,) = told.warnings
    assert PASSWORD not in warning.message
    assert SECRETS["openai"] not in warning.message
    assert "cannot keep" in warning.message


async def test_an_error_that_is_not_ours_is_told_by_its_kind_alone() -> None:
    told = watched(FaultyTurns(await Kept().client(), faults={1: "strange"}), mode="best_effort")
    await told.recorder.open()
    (warning,) = told.warnings
    assert "ZeroDivisionError" in warning.message
    assert "sk-strange" not in warning.message


async def test_the_hash_of_the_source_is_left_out_if_it_would_tell_too_much() -> None:
    turns = await Kept().client()
    await Script(watched(turns, mode="required", source_hashes="omitted").recorder, SECRET_WORDS).tell()
    run, *_ = await every_context(turns)
    dot, graph, *_ = await records_of(turns, run.context_id)
    assert "source_hash" not in dot.values
    assert "source_hash" not in graph.values


async def test_keys_that_name_a_secret_lose_their_value_whatever_it_is() -> None:
    turns = await Kept().client()
    session = SessionJournal(watched(turns, mode="required").recorder, session_id="s")
    arguments: dict[str, Any] = {
        "accessToken": PASSWORD,
        "X-Api-Key": 12345,
        "nested": [{"Cookie": {"session": PASSWORD}}],
        "password": {"secret_ref": "secret://env/DB", "prefix": "Bearer "},
        "max_tokens": 100,
        "secret": None,
    }
    await session.tool_call_started(call=ToolCall(call_id="c", name="t", arguments=arguments))
    (context,) = await every_context(turns)
    (record,) = await records_of(turns, context.context_id)
    assert record.values["redacted"] == 3
    assert record.values["arguments"] == {
        "accessToken": REDACTED,
        "X-Api-Key": REDACTED,
        "nested": [{"Cookie": REDACTED}],
        "password": {"secret_ref": "secret://env/DB", "prefix": "Bearer "},
        "max_tokens": 100,
        "secret": None,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("password=abc", "password=#"),
        ('{"api_key": "abc", "x": 1}', '{"api_key": "#", "x": 1}'),
        ('prompt="{\\"apiKey\\": \\"a b\\"}"', 'prompt="{\\"apiKey\\": \\"#\\"}"'),
        ("API KEY: abc rest", "API KEY: # rest"),
        ("Authorization: Basic YWRhOmxvdmVsYWNl\nHost: x", "Authorization: #\nHost: x"),
        ("curl -H 'Authorization: Bearer abc'", "curl -H 'Authorization: #'"),
        ("send Bearer abcdef0123456789 now", "send Bearer # now"),
        ("password = 'it\\'s', x", "password = '#', x"),
        ('token = "never closed', 'token = "#'),
        ("postgres://ada:p4ss@db/x", "postgres://ada:#@db/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY----- end", "# end"),
        ("clientSecret=abc&next=1", "clientSecret=#&next=1"),
        (f"a {SECRETS['jwt']} b", "a # b"),
        (f"({SECRETS['slack']})", "(#)"),
        ("risk-management-in-large-projects", "risk-management-in-large-projects"),
        ("max_tokens: 100, total_tokens=5", "max_tokens: 100, total_tokens=5"),
        ("the bearer certificates were basic", "the bearer certificates were basic"),
        ("a token is a word", "a token is a word"),
        ("http://host:80/path", "http://host:80/path"),
        ("see secret://env/DB", "see secret://env/DB"),
        (f"password={REDACTED}", f"password={REDACTED}"),
    ],
)
def test_shapes_of_secrets_in_texts(text: str, expected: str) -> None:
    redaction = DefaultRedaction()
    assert redaction.text(text) == expected.replace("#", REDACTED)
    assert redaction.count == expected.count("#")


def test_redacting_again_finds_nothing() -> None:
    once = DefaultRedaction().redact({"values": list(SECRETS.values()), "text": SECRET_WORDS.dot})
    again = DefaultRedaction()
    assert again.redact(once) == once
    assert again.count == 0


def test_secrets_as_keys_and_in_bytes_are_taken_out_too() -> None:
    redaction = DefaultRedaction()
    cleaned = redaction.redact(
        {"map": {SECRETS["aws"]: 1, SECRETS["github"]: 2}, "raw": b"\xff" + SECRETS["aws"].encode()}
    )
    assert cleaned == {"map": {REDACTED: 1, f"{REDACTED}_": 2}, "raw": b"\xff" + REDACTED.encode()}
    assert redaction.count == 3


@pytest.mark.parametrize("cut", range(4, 24))
def test_a_secret_that_was_cut_when_an_output_was_shortened_is_taken_out_with_its_piece(cut: int) -> None:
    full = f"head {SECRETS['github']} middle {SECRETS['aws']} tail"
    shown = f"{full[:cut]} ... {full[-cut:]}"
    cleaned = DefaultRedaction().redact({"output": shown, "full_output": full})
    for secret in (SECRETS["github"], SECRETS["aws"]):
        pieces = {secret[:size] for size in range(4, len(secret))} | {secret[-size:] for size in range(4, len(secret))}
        assert not any(piece in str(cleaned["output"]) for piece in pieces)


def test_the_words_of_the_house_are_all_known() -> None:
    for word in canonical._SECRET_WORDS:
        assert names_secret(f"my_{word}")
        assert secret_spans(f"{word}=abcdef")
    assert not names_secret("tokens")


@pytest.mark.parametrize(
    "hostile",
    [
        "a" * 300_000,
        "eyJ" * 100_000,
        "password" * 40_000,
        'token="' * 40_000,
        "\\" * 300_000,
        "://" * 100_000,
        "-----BEGIN " * 30_000,
    ],
)
def test_hostile_texts_are_searched_in_one_pass(hostile: str) -> None:
    # A search that is not linear would take hours here, and the time limit of every test would end it.
    assert isinstance(secret_spans(hostile), list)
