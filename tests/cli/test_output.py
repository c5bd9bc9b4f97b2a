"""What commands print is for a person or for a program, and obeys nothing that was recorded."""

from __future__ import annotations

import pytest

from perdure.cli import output
from perdure.cli.target import moment, operator
from perdure.domain.ids import check_actor
from perdure.errors import Invalid


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (None, ""),
        (0.0, "0 ms"),
        (0.25, "0.25 ms"),
        (12.5, "12.5 ms"),
        (999.0, "999 ms"),
        (999.7, "1 s"),
        (1_234.0, "1.23 s"),
        (65_000.0, "1 min 5 s"),
        (7_380_000.0, "2 h 3 min"),
    ],
)
def test_durations_read_well(duration_ms: float | None, text: str):
    assert output.duration_text(duration_ms) == text


def test_a_cell_is_one_bounded_line_without_control_characters():
    assert output.plain("a\nb\x1b[31mc\u202e") == "a b\\x1b[31mc\\x202e"
    assert output.plain(None) == ""
    assert len(output.plain("x" * 1_000)) == 200


def test_markup_in_a_name_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]):
    output.print_table(("NAME",), [("[red]x[/red]",)])
    assert capsys.readouterr().out.splitlines()[1] == "[red]x[/red]"


def test_a_table_in_a_pipe_is_not_cut(capsys: pytest.CaptureFixture[str]):
    output.print_table(("A", "B"), [("x" * 150, "y" * 150)])
    assert capsys.readouterr().out.splitlines()[1] == f"{'x' * 150}  {'y' * 150}"


def test_an_error_is_told_by_its_code_and_message():
    assert output.error_text({"code": "HTTP_503", "message": "try later"}) == "HTTP_503: try later"
    assert output.error_text({"message": "no"}) == "no"
    assert output.error_text({"other": 1}) == "{'other': 1}"
    assert output.error_text(None) == ""


def test_times_are_given_as_so_long_ago_or_as_they_are():
    day, hour = moment("1d", option="--since"), moment("1h", option="--since")
    assert day is not None
    assert hour is not None
    assert day < hour
    exact = moment("2026-01-31T12:00:00+00:00", option="--since")
    assert exact is not None
    assert exact.isoformat() == "2026-01-31T12:00:00+00:00"
    assert moment(None, option="--since") is None
    for wrong in ("yesterday", "999999999d"):
        with pytest.raises(Invalid, match="--since"):
            moment(wrong, option="--since")


def test_the_operator_is_an_actor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "ana lópez")
    assert check_actor(operator()) == "user:ana-l-pez"
