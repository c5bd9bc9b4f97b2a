"""Secrets are found where their references say, and shown nowhere."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest

from perdure.core.secrets import REDACTED_CHARS_MIN, SECRET_BYTES_MAX, SystemSecrets
from perdure.errors import Forbidden, Invalid, LimitExceeded, NotFound
from perdure.ports.secrets import Secret


async def test_a_secret_is_found_in_the_environment_and_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    secrets = SystemSecrets({"NAME": "swordfish"})
    assert (await secrets.resolve("secret://env/NAME")).reveal() == "swordfish"
    assert (await secrets.resolve(f"secret://file{tmp_path}/key")).reveal() == "hunter2"


async def test_a_secret_is_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    secrets = SystemSecrets({"NAME": "swordfish"})
    secret = await secrets.resolve("secret://env/NAME")
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("any").info("%s %r %s", secret, secret, [secret, secrets])
    shown = f"{secret} {secret!r} {secrets!r} {caplog.text}"
    assert "swordfish" not in shown
    with pytest.raises(TypeError, match="reference"):
        pickle.dumps(secret)


async def test_resolved_secrets_are_cut_out_of_texts() -> None:
    secrets = SystemSecrets({"LONG": "swordfish-and-more", "PART": "swordfish", "TINY": "abc"})
    assert secrets.redact("swordfish") == "swordfish", "nobody knows it yet"
    for name in ("PART", "LONG", "TINY"):
        await secrets.resolve(f"secret://env/{name}")
    assert secrets.redact("a swordfish-and-more b swordfish abc") == "a *** b *** abc"
    assert len("abc") < REDACTED_CHARS_MIN


@pytest.mark.parametrize(
    "reference",
    ["", "swordfish", "secret://vault/x", "secret://env/", "secret://env/A B", "secret://env/NAME\n", "env/NAME"],
)
async def test_what_is_no_reference_is_refused_and_not_repeated(reference: str) -> None:
    with pytest.raises(Invalid) as caught:
        await SystemSecrets({"NAME": "x"}).resolve(reference)
    assert "swordfish" not in str(caught.value)


async def test_a_reference_that_leads_nowhere_is_not_found(tmp_path: Path) -> None:
    secrets = SystemSecrets({"EMPTY": ""})
    for reference in (
        "secret://env/GONE",
        "secret://env/EMPTY",
        f"secret://file{tmp_path}/gone",
        f"secret://file{tmp_path}",
    ):
        with pytest.raises(NotFound):
            await secrets.resolve(reference)


async def test_only_names_and_directories_that_were_set_apart_may_be_named(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for directory in (allowed, other):
        directory.mkdir()
        (directory / "key").write_text("hunter2")
    (allowed / "link").symlink_to(other / "key")
    secrets = SystemSecrets(
        {"PERDURE_SECRET_A": "swordfish", "DATABASE_URL": "hunter2"},
        env_prefix="PERDURE_SECRET_",
        directories=(allowed,),
    )
    assert (await secrets.resolve("secret://env/PERDURE_SECRET_A")).reveal() == "swordfish"
    assert (await secrets.resolve(f"secret://file{allowed}/key")).reveal() == "hunter2"
    for reference in (
        "secret://env/DATABASE_URL",
        f"secret://file{other}/key",
        f"secret://file{allowed}/../other/key",
        f"secret://file{allowed}/link",
    ):
        with pytest.raises(Forbidden) as caught:
            await secrets.resolve(reference)
        assert caught.value.code == "secret_not_allowed"


async def test_a_file_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    secrets = SystemSecrets({})
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid):
        await secrets.resolve(f"secret://file{tmp_path}/bytes")
    (tmp_path / "large").write_text("x" * SECRET_BYTES_MAX)
    assert len((await secrets.resolve(f"secret://file{tmp_path}/large")).reveal()) == SECRET_BYTES_MAX
    (tmp_path / "larger").write_text("x" * (SECRET_BYTES_MAX + 1))
    with pytest.raises(LimitExceeded, match="secret_bytes_max"):
        await secrets.resolve(f"secret://file{tmp_path}/larger")


def test_secrets_compare_without_being_shown() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
