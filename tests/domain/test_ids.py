"""Names are checked to the last letter, and keys derived from them never meet."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.domain import ids, limits
from perdure.errors import Invalid, LimitExceeded

RUN = UUID("01900000-0000-7000-8000-000000000001")

keys = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=limits.KEY_CHARS_MAX
).filter(lambda text: text == text.strip())


@pytest.mark.parametrize("tenant", ["t_a", "t_acme", "t_system", "t_0-_9", "t_" + "x" * 62])
def test_a_tenant_is_a_slug(tenant: str):
    assert ids.check_tenant(tenant) == tenant


@pytest.mark.parametrize(
    "tenant",
    [
        "",
        "t_",
        "acme",
        "t_acme\n",
        "\nt_acme",
        "t_Acme",
        "T_acme",
        "t_a b",
        "t_a.b",
        "t_é",
        "t_\u0430",
        "t_" + "x" * 63,
        "t_a/b",
    ],
)
def test_what_is_not_a_slug_is_no_tenant(tenant: str):
    with pytest.raises(Invalid, match="not a tenant"):
        ids.check_tenant(tenant)


def test_the_uuid_of_a_tenant_is_published_and_never_changes():
    assert ids.tenant_uuid("t_acme") == UUID("46a42543-83d8-508c-a74e-d4fa1e936fbd")
    with pytest.raises(Invalid):
        ids.tenant_uuid("acme")


@pytest.mark.parametrize("env", ["dev", "prod-eu_1", "a" * limits.ENV_CHARS_MAX])
def test_an_environment_is_a_label(env: str):
    assert ids.check_env(env) == env


@pytest.mark.parametrize("env", ["", "Dev", "1dev", "dev\n", "a" * (limits.ENV_CHARS_MAX + 1), "dév"])
def test_what_is_not_a_label_is_no_environment(env: str):
    with pytest.raises(Invalid, match="not an environment"):
        ids.check_env(env)


def test_there_are_three_modes():
    assert [ids.check_mode(mode) for mode in ("lab", "saas", "enterprise")] == list(ids.MODES)
    for wrong in ("", "LAB", "lab\n", "prod"):
        with pytest.raises(Invalid, match="lab, saas, enterprise"):
            ids.check_mode(wrong)


@pytest.mark.parametrize("actor", ["agent:planner", "user:0190-x", "system:relay/1", "external:a@b.test"])
def test_an_actor_says_what_it_is_and_its_name(actor: str):
    assert ids.check_actor(actor) == actor


@pytest.mark.parametrize("actor", ["", "planner", "agent:", "agent:x\n", "Agent:x", "agent:x y", "agent:é", "robot:x"])
def test_anything_else_is_no_actor(actor: str):
    with pytest.raises(Invalid, match="not an actor"):
        ids.check_actor(actor)


@pytest.mark.parametrize("source", ["", "api:", "api:x\n", "API:x", "mail:x", "api:ü"])
def test_anything_without_a_known_origin_is_no_source(source: str):
    assert ids.check_source("webhook:stripe/eu") == "webhook:stripe/eu"
    with pytest.raises(Invalid, match="not a source"):
        ids.check_source(source)


@pytest.mark.parametrize("effect_type", ["S", "send", "1SEND", "SEND-MAIL", "SEND\n", "S" * 51, "ÄB"])
def test_an_effect_type_is_upper_snake(effect_type: str):
    assert ids.check_effect_type("S" * 50) == "S" * 50
    with pytest.raises(Invalid, match="not an effect type"):
        ids.check_effect_type(effect_type)


@pytest.mark.parametrize("action", ["", "login", "A", "LOGGED IN", "LOGIN\n", "A" * 101])
def test_an_action_is_upper_snake(action: str):
    assert ids.check_action("A" * limits.ACTION_CHARS_MAX) == "A" * 100
    with pytest.raises(Invalid, match="not an action"):
        ids.check_action(action)


@pytest.mark.parametrize(
    ("check", "prefix", "chars_max", "limit"),
    [
        (ids.check_name, "", limits.NAME_CHARS_MAX, "name_chars_max"),
        (ids.check_key, "", limits.KEY_CHARS_MAX, "key_chars_max"),
        (ids.check_channel, "", limits.CHANNEL_CHARS_MAX, "channel_chars_max"),
        (ids.check_source_id, "", limits.SOURCE_ID_CHARS_MAX, "source_id_chars_max"),
        (ids.check_actor, "user:", limits.ACTOR_CHARS_MAX, "actor_chars_max"),
        (ids.check_source, "api:", limits.SOURCE_CHARS_MAX, "source_chars_max"),
    ],
)
def test_a_text_may_be_as_long_as_its_limit_and_no_longer(
    check: Callable[[str], str], prefix: str, chars_max: int, limit: str
):
    longest = prefix + "x" * (chars_max - len(prefix))
    assert check(longest) == longest
    with pytest.raises(LimitExceeded) as refused:
        check(longest + "x")
    assert refused.value.detail == {"limit": limit, "allowed": chars_max, "actual": chars_max + 1}


def test_an_entity_is_bounded_on_both_sides():
    longest = ("x" * limits.ENTITY_TYPE_CHARS_MAX, "y" * limits.ENTITY_ID_CHARS_MAX)
    assert ids.check_entity(longest[0], entity_id=longest[1]) == longest
    with pytest.raises(LimitExceeded, match="entity_type_chars_max"):
        ids.check_entity(longest[0] + "x", entity_id="42")
    with pytest.raises(LimitExceeded, match="entity_id_chars_max"):
        ids.check_entity("invoice", entity_id=longest[1] + "y")


@pytest.mark.parametrize("name", ["", " ", "a\n", " a", "a ", "a\tb", "a\x00b", "a\u2028b", "a\ud800", "a\x85b"])
def test_a_name_is_one_line_of_text(name: str):
    assert ids.check_name("Prüfung 発注 #2") == "Prüfung 発注 #2"
    with pytest.raises(Invalid, match="not a name"):
        ids.check_name(name)


def test_a_source_id_is_kept_as_its_sender_wrote_it():
    assert ids.check_source_id(" <a b@mail.test> ") == " <a b@mail.test> "
    for wrong in ("", "a\nb", "\x00"):
        with pytest.raises(Invalid, match="not a source id"):
            ids.check_source_id(wrong)


def test_what_is_not_text_is_refused_with_its_type_and_not_its_content():
    with pytest.raises(Invalid, match="a name is text, not bytes"):
        ids.check_name(b"secret")  # type: ignore[arg-type]  # what an untyped caller does


def test_a_hostile_value_cannot_break_the_message_that_quotes_it():
    with pytest.raises(Invalid) as refused:
        ids.check_tenant("x\n" * 1_000)
    assert "\n" not in refused.value.message
    assert len(refused.value.message) < 250


def test_an_idempotency_key_is_run_step_and_effect():
    assert ids.effect_idempotency_key(RUN, step_key="classify", effect_key="mail") == f"{RUN}/classify/mail"


def test_slashes_in_keys_do_not_make_two_effects_one():
    one = ids.effect_idempotency_key(RUN, step_key="a/b", effect_key="c")
    other = ids.effect_idempotency_key(RUN, step_key="a", effect_key="b/c")
    assert one != other


def test_an_idempotency_key_is_shortened_only_above_its_limit():
    room = limits.IDEMPOTENCY_KEY_CHARS_MAX - len(f"{RUN}//") - limits.KEY_CHARS_MAX
    at_limit = ids.effect_idempotency_key(RUN, step_key="s" * 100, effect_key="é" * 5 + "e" * (room - 30))
    assert len(at_limit) == limits.IDEMPOTENCY_KEY_CHARS_MAX
    assert "~" not in at_limit
    above = ids.effect_idempotency_key(RUN, step_key="s" * 100, effect_key="é" * 5 + "e" * (room - 29))
    assert len(above) == limits.IDEMPOTENCY_KEY_CHARS_MAX
    assert above[-33] == "~"


@given(keys, keys, keys, keys)
def test_no_two_pairs_of_keys_share_an_idempotency_key(step: str, effect: str, other_step: str, other_effect: str):
    one = ids.effect_idempotency_key(RUN, step_key=step, effect_key=effect)
    other = ids.effect_idempotency_key(RUN, step_key=other_step, effect_key=other_effect)
    assert (one == other) == ((step, effect) == (other_step, other_effect))
    assert one.isascii()
    assert one.isprintable()
    assert len(one) <= limits.IDEMPOTENCY_KEY_CHARS_MAX


@given(st.sampled_from(["a", "b", "a#1", "a#2", "a#2#1", "#2"]), st.integers(1, 3), st.data())
def test_no_two_occurrences_share_a_default_key(name: str, occurrence: int, data: st.DataObject):
    other = data.draw(st.sampled_from(["a", "b", "a#1", "a#2", "a#2#1", "#2"]))
    other_occurrence = data.draw(st.integers(1, 3))
    same = ids.default_key(name, occurrence=occurrence) == ids.default_key(other, occurrence=other_occurrence)
    assert same == ((name, occurrence) == (other, other_occurrence))


def test_a_default_key_is_the_name_and_from_the_second_time_its_number():
    assert [ids.default_key("classify", occurrence=n) for n in (1, 2, 3)] == ["classify", "classify#2", "classify#3"]
    with pytest.raises(Invalid, match="count from 1"):
        ids.default_key("classify", occurrence=0)


def test_the_default_key_of_a_long_name_is_short_and_still_its_own():
    names = ["n" * limits.NAME_CHARS_MAX, "n" * (limits.NAME_CHARS_MAX - 1) + "m"]
    made = [ids.default_key(name, occurrence=n) for name in names for n in (1, 2)]
    assert len(set(made)) == 4
    assert all(ids.check_key(key) == key and len(key) == limits.KEY_CHARS_MAX for key in made)
