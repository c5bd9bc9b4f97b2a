"""Which contexts come from which: what they say themselves, and what they were forked from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from perdure.adapters.cxdb.http_server.directory import Described


class Family:
    """Contexts by their parent. ``truncated``: there are others, which were not looked at."""

    def __init__(
        self, described: Sequence[Described], *, parent_of: Callable[[Described], str | None], truncated: bool
    ) -> None:
        self.truncated = truncated
        self.members = {one.context.context_id: one for one in described}
        self._children: dict[str, list[str]] = {}
        for one in described:
            parent = parent_of(one)
            if parent is not None:
                self._children.setdefault(parent, []).append(one.context.context_id)

    def children(self, context_id: str) -> Sequence[str]:
        """Those whose parent a context is, in the order in which they were given."""
        return self._children.get(context_id, [])

    def descendants(self, context_id: str) -> Sequence[str]:
        """Children, then theirs, and so on; each once, and never the context itself, whatever they say."""
        found: dict[str, None] = {}
        generation = [context_id]
        while generation:
            following = [child for parent in generation for child in self.children(parent)]
            generation = [child for child in dict.fromkeys(following) if child not in found and child != context_id]
            found |= dict.fromkeys(generation)
        return list(found)
