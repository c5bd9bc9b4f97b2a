"""The records of one session: their keys, and the ids that each of them carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from perdure.core.journal_links import Correlation, Journal
from perdure.core.recorder import Recorder
from perdure.core.recorder_lines import Draft, Track
from perdure.core.recorder_texts import Shape
from perdure.domain.turn import TurnRef
from perdure.domain.turn_records import agent_records as records
from perdure.domain.turn_records import link_records as links
from perdure.domain.turn_records.fields import RecordType
from perdure.domain.turn_records.keys import agent_key


class SessionRecords(Journal):
    """Writes records of a session to its context."""

    def __init__(
        self,
        recorder: Recorder,
        track: Track,
        *,
        session_id: str,
        thread_key: str | None,
        correlation: Correlation,
    ) -> None:
        super().__init__(recorder, track)
        self._session_id = session_id
        self._thread_key = thread_key
        self._correlation = correlation

    @property
    def track(self) -> Track:
        """What the session's records are appended to, for the sessions that it begins."""
        return self._track

    def _correlation_of_child(self, parent_turn_id: str) -> Correlation:
        return replace(self._correlation, parent_turn_id=parent_turn_id)

    async def _said(
        self,
        record_type: RecordType,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        shape: Shape | None = None,
    ) -> TurnRef | None:
        return await self._record(record_type, records.TURN_APPENDED, values, at=at, shape=shape)

    async def _event(
        self,
        event_kind: str,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        ids: Mapping[str, object] | None = None,
        shape: Shape | None = None,
        stamps_context: str | None = None,
    ) -> TurnRef | None:
        return await self._record(
            records.AGENT_EVENT, event_kind, values, at=at, ids=ids, shape=shape, stamps_context=stamps_context
        )

    async def _linked(
        self,
        event_kind: str,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        ids: Mapping[str, object] | None = None,
    ) -> TurnRef | None:
        return await self._record(links.SUBAGENT_LINK, event_kind, values, at=at, ids=ids)

    async def _record(
        self,
        record_type: RecordType,
        event_kind: str,
        values: Mapping[str, object],
        *,
        at: datetime | None,
        ids: Mapping[str, object] | None = None,
        shape: Shape | None = None,
        stamps_context: str | None = None,
    ) -> TurnRef | None:
        def key(number: int) -> str:
            return agent_key(self._session_id, index=number, event_kind=event_kind)

        correlation = self._correlation  # as it is now: the record may be encoded after the next stage began

        def envelope(_: Draft) -> Mapping[str, object]:
            own = {"agent_session_id": self._session_id, "thread_key": self._thread_key}
            return {**correlation.as_values(), **own, **(ids or {})}

        return await self._send(
            self._draft(
                record_type,
                event_kind,
                values,
                key=key,
                envelope=envelope,
                at=at,
                shape=shape,
                stamps_context=stamps_context,
            )
        )
