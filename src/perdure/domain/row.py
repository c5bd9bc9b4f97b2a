"""From a database row to a record: types are checked once, here, and columns a record does not know are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Self, TypeAlias

import msgspec

from perdure.errors import Corrupt

# A time without a zone is a bug waiting for a flight; rows never carry one.
Instant: TypeAlias = Annotated[datetime, msgspec.Meta(tz=True)]


class FromRow:
    """Gives a record class ``from_row``."""

    __slots__ = ()

    @classmethod
    def from_row(cls, row: Mapping[str, object]) -> Self:
        """The record of a row, given by column name; JSON forms of ids and times are read too.

        Raises ``Corrupt`` when a column is missing or does not have its type.
        """
        try:
            return msgspec.convert(dict(row), cls, strict=False)
        except msgspec.ValidationError as exc:
            raise Corrupt(
                f"a row is not a {cls.__name__}: {exc}; do schema and release fit? see: perdure migrate --status",
                record=cls.__name__,
                row_id=str(row.get("id")),
            ) from exc
