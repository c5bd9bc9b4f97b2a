"""Values for records, drawn from their tables: whatever a table allows is written and read sooner or later."""

from __future__ import annotations

from typing import Final

from hypothesis import strategies as st

from perdure.domain.turn_records.fields import INTEGERS, Field, RecordType

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
floats = st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | floats | texts | st.binary(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
# Not nothing: that would mean that an optional field is absent.
something = anything.filter(lambda value: value is not None)
_OTHERS: Final[dict[str, st.SearchStrategy[object]]] = {
    "string": texts,
    "bool": st.booleans(),
    "bytes": st.binary(max_size=12),
    "typed_blob": st.binary(max_size=12),
    "f64": floats,
    "any": something,
}


def scalars(kind: str) -> st.SearchStrategy[object]:
    """Values of a scalar type, its bounds among them."""
    bounds = INTEGERS.get(kind)
    return _OTHERS[kind] if bounds is None else st.sampled_from(bounds) | st.integers(*bounds)


def of_field(field: Field) -> st.SearchStrategy[object]:
    """Values of a field."""
    if field.ref is not None:
        return records(field.ref)
    if isinstance(field.items, RecordType):
        return st.lists(records(field.items), max_size=3)
    if field.enum is not None:
        return st.sampled_from(sorted(field.enum.numbers))
    if field.type == "array":
        return st.lists(scalars(field.items or "any"), max_size=3)
    if field.type == "map":
        return st.dictionaries(texts, scalars(field.items or "any"), max_size=3)
    return scalars(field.type)


@st.composite
def records(draw: st.DrawFn, record_type: RecordType) -> dict[str, object]:
    """Values of a record that keep its rules."""
    values: dict[str, object] = {}
    for field in record_type.fields:
        if not field.optional or (field.name not in record_type.exactly_one and draw(st.booleans())):
            values[field.name] = draw(of_field(field))
    if record_type.event_kinds:
        values["event_kind"] = draw(st.sampled_from(record_type.event_kinds))
    if record_type.exactly_one:
        chosen = record_type.by_name[draw(st.sampled_from(record_type.exactly_one))]
        values[chosen.name] = draw(of_field(chosen))
    for requirement in record_type.requirements:
        if values.get(requirement.name) == requirement.value:
            for name in requirement.present:
                if name not in values:
                    values[name] = draw(of_field(record_type.by_name[name]))
    return values
