"""The keys that a change reserves: given back when it is not committed, so that rebuilding it gives the same ones."""

from __future__ import annotations

from uuid import UUID

from perdure.domain.handles import Run, StepRef, free_key
from perdure.domain.ids import check_key
from perdure.errors import KeyReused


class ReservedKeys:
    """What one change reserved of the default keys of its run and of its steps."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._of_run: set[str] = set()
        self._of_steps: list[tuple[set[str], str]] = []
        self._calls: set[tuple[UUID, str]] = set()

    def of_step(self, name: str, *, key: str | None) -> str:
        """The key of a step of the run."""
        if key is None:
            key = self._run.reserve_key(name)
            self._of_run.add(key)
        return check_key(key)

    def of_call(self, step: StepRef, tool_name: str, *, key: str | None) -> str:
        """The key of a tool call of ``step``. Raises ``KeyReused`` for a second one in the same change."""
        key = check_key(key) if key is not None else self._free(tool_name, step.call_keys)
        if (step.id, key) in self._calls:
            raise KeyReused(f"this change has a tool call {key!r} of step {step.key!r} already; name them apart")
        self._calls.add((step.id, key))
        return key

    def of_effect(self, step: StepRef, effect_type: str, *, key: str | None) -> str:
        """The key of an effect, local to ``step``."""
        return check_key(key) if key is not None else self._free(effect_type.lower(), step.effect_keys)

    def release(self) -> None:
        """Give them back."""
        self._run.release_keys(self._of_run)
        for taken, key in self._of_steps:
            taken.discard(key)

    def hold(self) -> None:
        """Take them again, because the change is sent after all."""
        self._run.hold_keys(self._of_run)
        for taken, key in self._of_steps:
            taken.add(key)

    def _free(self, name: str, taken: set[str]) -> str:
        key = free_key(name, taken=taken)
        taken.add(key)
        self._of_steps.append((taken, key))
        return key
