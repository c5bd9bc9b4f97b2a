"""What a route's config may hold: the fields of its backend, each of its type, and never a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from perdure.domain.ids import check_text
from perdure.domain.limits import INTEGER_MAX
from perdure.domain.route import CONFIG_ENTRIES_MAX, CONFIG_VALUE_CHARS_MAX, ConfigValue
from perdure.errors import Invalid, LimitExceeded
from perdure.ports.backend import BackendSpec, ConfigField, FieldType

_REFERENCE: Final = re.compile(r"secret://(env|file)/\S+")
# What a secret looks like inside a value that is not declared to be one: credentials in an address, a key by its name
# or by its shape. What is harmless and refused can be given another name; what is kept once has to be replaced.
_LITERAL_SECRET: Final = re.compile(
    r"://[^/?#@\s]*:(?!\d+[/?#])[^@\s]+@"
    r"|(account|access|api|shared|private|secret|signing)[-_ ]?(access[-_ ]?)?(key|signature)[\"']?\s*[=:]"
    r"|(password|passwd|passphrase|pwd|secret|token|credentials?)[\"']?\s*=|[\"'](password|secret|token)[\"']\s*:"
    r"|[?&;]sig=|-----BEGIN [A-Z ]*PRIVATE KEY|\bA(KIA|SIA)[0-9A-Z]{16}\b|\beyJ[\w-]{10,}\.[\w-]{10,}\.",
    re.IGNORECASE,
)


def check_config(spec: BackendSpec, config: Mapping[str, ConfigValue]) -> None:
    """Raise ``Invalid`` or ``LimitExceeded`` unless a backend may be given this config. No value is ever shown."""
    if len(config) > CONFIG_ENTRIES_MAX:
        raise LimitExceeded(
            f"a route's config has {len(config)} fields, at most {CONFIG_ENTRIES_MAX} (config_entries_max)",
            limit="config_entries_max",
            allowed=CONFIG_ENTRIES_MAX,
            actual=len(config),
        )
    fields = {field.name: field for field in spec.config}
    unknown = sorted(str(name)[:80] for name in config if name not in fields)
    if unknown:
        known = ", ".join(fields) or "none"
        raise Invalid(f"backend {spec.name} has no config field {', '.join(unknown)}; its fields: {known}")
    missing = sorted(name for name, known in fields.items() if known.required and name not in config)
    if missing:
        raise Invalid(f"backend {spec.name} needs {', '.join(missing)} in its config", missing=missing)
    for name, value in config.items():
        _check_value(spec, fields[name], value)


_FLAGS: Final = {"true": True, "false": False}
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")


def parse_value(backend: str, name: str, text: str, wanted: FieldType) -> ConfigValue:
    """A value given as a text, as a field's type wants it. Raises ``Invalid``."""
    # The text is not quoted: it may be a secret in the wrong place.
    if wanted == "flag":
        if text not in _FLAGS:
            raise Invalid(f"config field {name} of backend {backend} is true or false")
        return _FLAGS[text]
    if wanted == "integer":
        if _INTEGER.fullmatch(text) is None:
            raise Invalid(f"config field {name} of backend {backend} is an integer of at most 18 digits")
        return int(text)
    return text


_TYPES: Final[Mapping[FieldType, type]] = {"text": str, "secret": str, "integer": int, "flag": bool}


def _check_value(spec: BackendSpec, known: ConfigField, value: ConfigValue) -> None:
    what = f"config field {known.name} of backend {spec.name}"
    expected = _TYPES[known.type]
    # bool is an int to Python and to nobody else.
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise Invalid(f"{what} is a {known.type}, not {type(value).__name__}")
    if isinstance(value, int) and abs(value) > INTEGER_MAX:
        raise Invalid(f"{what} is an integer between -{INTEGER_MAX} and {INTEGER_MAX}")
    if not isinstance(value, str):
        return
    if known.type == "secret" and _REFERENCE.fullmatch(value) is None:
        raise Invalid(
            f"{what} takes a reference, secret://env/NAME or secret://file/PATH; "
            "a secret itself is never kept in a route"
        )
    if known.type == "text" and _LITERAL_SECRET.search(value) is not None:
        raise Invalid(f"{what} seems to hold a secret; keep it outside and give a reference: secret://env/NAME")
    _check_line(what, value)
    if known.choices and value not in known.choices:
        raise Invalid(f"{what} is one of: {', '.join(known.choices)}")


def _check_line(what: str, value: str) -> None:
    # The value is not shown, whatever is wrong with it: it may be a secret in the wrong place.
    if len(value) > CONFIG_VALUE_CHARS_MAX:
        raise LimitExceeded(
            f"{what} has {len(value)} characters, at most {CONFIG_VALUE_CHARS_MAX} (config_value_chars_max)",
            limit="config_value_chars_max",
            allowed=CONFIG_VALUE_CHARS_MAX,
            actual=len(value),
        )
    try:
        check_text(value, what=what, limit="config_value_chars_max", chars_max=CONFIG_VALUE_CHARS_MAX)
    except Invalid:
        raise Invalid(
            f"{what} must be one line of text, not empty, without a blank at either end and without control characters"
        ) from None
