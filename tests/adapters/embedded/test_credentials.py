"""Passwords are asked for on every way in and are seen in one file only."""

from __future__ import annotations

import base64
import logging
import os
import stat
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from perdure.adapters import embedded
from perdure.adapters.embedded import EmbeddedConfig
from perdure.adapters.embedded.credentials import read_passwords, scram_verifier
from perdure.adapters.embedded.layout import layout_of
from perdure.errors import Corrupt, Forbidden, PerdureError


async def test_the_verifier_is_the_one_libpq_computes(config: EmbeddedConfig):
    server = await embedded.join(config)
    async with await psycopg.AsyncConnection.connect(server.dsn("app")) as app:
        theirs = app.pgconn.encrypt_password(b"pencil-_09", b"app", b"scram-sha-256").decode()
    salt = base64.b64decode(theirs.partition(":")[2].partition("$")[0])
    assert scram_verifier("pencil-_09", salt=salt) == theirs
    assert scram_verifier("pencil-_09") != theirs, "the salt is not random"
    await embedded.leave(server)


async def test_every_way_in_asks_for_a_password(config: EmbeddedConfig):
    server = await embedded.join(config)
    rules = (config.data_dir / "pg" / "pg_hba.conf").read_text("ascii").splitlines()
    methods = {line.split()[-1] for line in rules if line and not line.startswith("#")}
    assert methods == {"scram-sha-256"}
    where = f"host=127.0.0.1 port={server.port} dbname=perdure sslmode=disable passfile=/dev/null"
    for user in ("postgres", "owner", "app"):
        with pytest.raises(psycopg.OperationalError, match="no password supplied"):
            await psycopg.AsyncConnection.connect(f"{where} user={user}")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            await psycopg.AsyncConnection.connect(f"{where} user={user} password=guess")
    await embedded.leave(server)


async def test_no_password_is_seen_anywhere_but_in_its_file(
    config: EmbeddedConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("SOMEBODYS_API_KEY", "sk-very-secret")
    server = await embedded.join(config)
    passwords = read_passwords(layout_of(config.data_dir))
    assert set(passwords) == {"postgres", "owner", "app"}
    assert len(set(passwords.values())) == 3
    running = Path(f"/proc/{server.pid}")
    shown = [repr(server), repr(config), server.dsn("app"), caplog.text, (config.data_dir / "pg.log").read_text()]
    shown += [(running / "cmdline").read_text(), (running / "environ").read_text()]
    for password in (*passwords.values(), "sk-very-secret"):
        assert len(password) >= 14
        assert not [text for text in shown if password in text]
    assert f"passfile={config.data_dir / 'pgpass'}" in server.dsn("app")
    await embedded.leave(server)


async def test_files_are_for_their_owner_alone(config: EmbeddedConfig):
    before = os.umask(0)
    try:
        server = await embedded.join(config)
        await embedded.leave(server)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in config.data_dir.iterdir()}
    assert {name: mode for name, mode in modes.items() if mode & 0o077} == {}
    assert modes["pgpass"] == 0o600


async def test_a_password_file_that_others_can_read_is_refused(config: EmbeddedConfig):
    server = await embedded.join(config)
    await embedded.leave(server)
    (config.data_dir / "pgpass").chmod(0o640)
    with pytest.raises(Forbidden, match="chmod 600"):
        await embedded.join(config)


@pytest.mark.parametrize("content", [b"not a password file\n", b"\xff\xfe\n"])
async def test_a_password_file_that_is_none_is_refused(config: EmbeddedConfig, content: bytes):
    server = await embedded.join(config)
    await embedded.leave(server)
    (config.data_dir / "pgpass").write_bytes(content)
    with pytest.raises(Corrupt, match="move it away"):
        await embedded.join(config)


async def test_a_password_file_lost_under_a_running_server_says_how_to_go_on(config: EmbeddedConfig):
    await embedded.start(config)
    (config.data_dir / "pgpass").unlink()
    with pytest.raises(PerdureError, match="perdure pg stop --force"):
        await embedded.join(config)
    await embedded.stop(config, force=True)
    await embedded.leave(await embedded.join(config))


async def test_the_data_directory_keeps_itself_out_of_version_control(config: EmbeddedConfig):
    server = await embedded.join(config)
    await embedded.leave(server)
    assert (config.data_dir / ".gitignore").read_text() == "*\n"


async def test_a_path_in_any_alphabet_works(config: EmbeddedConfig):
    elsewhere = replace(config, data_dir=config.data_dir.parent / "Bücher und Läufe" / ".perdure")
    server = await embedded.join(elsewhere)
    try:
        assert embedded.status(elsewhere).port == server.port
    finally:
        await embedded.leave(server)
