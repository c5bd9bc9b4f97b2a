"""Connection strings mean the same in every environment."""

from __future__ import annotations

import pytest
from psycopg.conninfo import conninfo_to_dict

from perdure.adapters.postgres.dsns import pinned


@pytest.mark.parametrize(
    ("dsn", "address", "port"),
    [
        ("postgresql://app@db.example.org/ledger", "", "5432"),
        ("postgresql://app@db.example.org:6432/ledger", "", "6432"),
        ("postgresql://app@one,two:6432/ledger", "", ",6432"),
        ("host=db.example.org hostaddr=10.0.0.7 port=6432 user=app", "10.0.0.7", "6432"),
        ("host=/run/postgresql dbname=ledger", "", "5432"),
    ],
)
def test_what_a_host_leaves_open_is_not_left_to_variables(dsn: str, address: str, port: str) -> None:
    parts = conninfo_to_dict(pinned(dsn))
    assert (parts["hostaddr"], parts["port"]) == (address, port)
    assert {name: parts[name] for name in conninfo_to_dict(dsn)} == conninfo_to_dict(dsn)


@pytest.mark.parametrize("dsn", ["dbname=ledger", "service=ledger", "service=ledger host=db", "", "no conninfo", "://"])
def test_what_names_no_host_of_its_own_stays_as_it_is(dsn: str) -> None:
    assert pinned(dsn) == dsn
