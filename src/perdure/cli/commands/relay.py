"""``perdure relay``: delivers effects until it is told to stop."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, cast

import typer

from perdure.compose.relay import WebhookSettings, open_relay
from perdure.core.relay import Relay, RelayCounters, RelaySettings
from perdure.errors import Invalid, PerdureError
from perdure.ports.relay import Deliverer

__all__ = ["relay"]

_DEFAULT_DIR = Path(".perdure")
_SETTINGS = RelaySettings()


def relay(
    *,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="The embedded database's directory.", show_default="./.perdure")
    ] = _DEFAULT_DIR,
    dsn: Annotated[
        str | None, typer.Option("--dsn", help="Another database, as the role perdure_relay.", metavar="DSN")
    ] = None,
    listen_dsn: Annotated[
        str | None,
        typer.Option("--listen-dsn", help="The server itself, not a pooler: wakes the relay early.", metavar="DSN"),
    ] = None,
    deliverer: Annotated[
        list[str] | None,
        typer.Option("--deliverer", help="Who delivers a type, * for all others.", metavar="TYPE=MODULE:FUNCTION"),
    ] = None,
    webhooks: Annotated[
        bool, typer.Option("--webhooks", help="Deliver WEBHOOK_CALL and API_CALL effects over HTTP.")
    ] = False,
    webhook_host: Annotated[
        list[str] | None,
        typer.Option(
            "--webhook-host", help="Where webhooks may go, and nowhere else; may be repeated.", metavar="HOST"
        ),
    ] = None,
    secret_prefix: Annotated[
        str | None, typer.Option("--secret-prefix", help="Which environment variables effects may name as secrets.")
    ] = None,
    secret_dir: Annotated[
        list[Path] | None, typer.Option("--secret-dir", help="Where files are that effects may name as secrets.")
    ] = None,
    deliveries_max: Annotated[
        int, typer.Option("--deliveries-max", "--workers", min=1, help="Deliveries at once.")
    ] = _SETTINGS.deliveries_max,
    lease_s: Annotated[
        float, typer.Option("--lease-s", help="Seconds until the work of a killed relay is taken over.")
    ] = _SETTINGS.lease_s,
    timeout_s: Annotated[
        float, typer.Option("--timeout-s", help="Seconds until a delivery is cut off; below --lease-s.")
    ] = _SETTINGS.delivery_timeout_s,
    drain: Annotated[bool, typer.Option("--drain", "--once", help="Deliver what is due, then end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts at the end as one JSON object.")] = False,
) -> None:
    """Deliver effects. Any number of relays may run at once; Ctrl-C finishes what is in hand, twice cuts it off."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would write every address that is called
    try:
        counters = asyncio.run(
            _relay(
                dsn,
                data_dir=data_dir,
                listen_dsn=listen_dsn,
                deliverers=_deliverers(deliverer or []),
                webhooks=_webhooks(webhook_host or [], wanted=webhooks),
                secret_prefix=secret_prefix,
                secret_dirs=tuple(secret_dir) if secret_dir else None,
                settings=RelaySettings(deliveries_max=deliveries_max, lease_s=lease_s, delivery_timeout_s=timeout_s),
                drain=drain,
            )
        )
    except PerdureError as exc:
        typer.echo(exc.message, err=True)
        raise typer.Exit(1) from exc
    except (KeyboardInterrupt, asyncio.CancelledError) as exc:
        typer.echo("cut off; what was in hand is tried again when its leases have expired", err=True)
        raise typer.Exit(130) from exc
    if as_json:
        typer.echo(json.dumps(counters.as_dict()))
    else:
        typer.echo(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counters.as_dict().items()))


async def _relay(
    dsn: str | None,
    *,
    data_dir: Path,
    listen_dsn: str | None,
    deliverers: dict[str, Deliverer],
    webhooks: WebhookSettings | None,
    secret_prefix: str | None,
    secret_dirs: tuple[Path, ...] | None,
    settings: RelaySettings,
    drain: bool,
) -> RelayCounters:
    async with open_relay(
        dsn,
        data_dir=data_dir,
        listen_dsn=listen_dsn,
        deliverers=deliverers,
        webhooks=webhooks,
        secret_env_prefix=secret_prefix,
        secret_directories=secret_dirs,
        settings=settings,
    ) as opened:
        with _stopped_by_signals(opened):
            typer.echo(f"{opened.worker} delivers", err=True)
            await (opened.drain() if drain else opened.run())
        return opened.counters


class _stopped_by_signals:  # noqa: N801 - read as a word in a with statement
    """The first SIGINT or SIGTERM lets the relay finish what is in hand, the second cuts it off."""

    def __init__(self, opened: Relay) -> None:
        self._opened = opened
        self._task: asyncio.Task[object] | None = None
        self._asked = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self) -> None:
        if not self._asked:
            self._asked = True
            typer.echo(f"finishing {self._opened.in_hand} deliveries; once more to cut them off", err=True)
            self._opened.stop()
        elif self._task is not None:
            self._task.cancel()


def _webhooks(hosts: list[str], *, wanted: bool) -> WebhookSettings | None:
    if not wanted:
        if hosts:
            raise Invalid("--webhook-host says where webhooks may go; say --webhooks too")
        return None
    return WebhookSettings(hosts_allowed=frozenset(host.lower() for host in hosts) if hosts else None)


def _deliverers(given: list[str]) -> dict[str, Deliverer]:
    """The functions that were named; modules are found from the working directory too, as with python -m."""
    found: dict[str, Deliverer] = {}
    if given and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    for text in given:
        effect_type, _, place = text.partition("=")
        module_name, _, function_name = place.partition(":")
        if not (effect_type and module_name and function_name):
            raise Invalid(f"--deliverer {text!r}: expected TYPE=MODULE:FUNCTION, as in SEND_EMAIL=mail.outgoing:send")
        try:
            function = getattr(importlib.import_module(module_name), function_name)
        except (ImportError, AttributeError) as exc:
            raise Invalid(f"--deliverer {text!r}: {exc}") from exc
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - an object with an async __call__ is a deliverer too
        )
        if not is_async:
            raise Invalid(f"--deliverer {text!r}: {function_name} is not an async function")
        found[effect_type] = cast("Deliverer", function)
    return found
