"""Every contract test says what it ran on, so that the table can."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.contracts.engines import engine_of


@pytest.fixture(autouse=True)
def _engine(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> None:
    info = engine_of(request.path.stem.removeprefix("test_"))
    record_property("engine", info.engine)
    record_property("emulator", info.emulator)
