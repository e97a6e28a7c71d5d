"""What `resources add` asks for, read from its words; every mistake names its option."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NoReturn

import click

from codomyrmex.clock import SystemClock
from codomyrmex.exceptions import Fault, ValidationError
from codomyrmex.logistics.orchestration.project.resource_request import UNIT

if TYPE_CHECKING:
    from codomyrmex.logistics.orchestration.project.resource_register import StoredResource

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_PER_S = 60.0


def wanted_resource(
    name: str, kind: str, *, capacity: str, per: str | None, burst: str | None, description: str
) -> StoredResource:
    """The row of what the line asks for; raises `ValidationError` or `click.UsageError`."""
    from codomyrmex.logistics.orchestration.project.resource_amounts import read_amount
    from codomyrmex.logistics.orchestration.project.resource_register import StoredResource
    from codomyrmex.logistics.orchestration.project.states import ResourceType

    _check_name(name)
    is_quota = kind == "api_quota"
    if not is_quota and (per is not None or burst is not None):
        option = "--per" if per is not None else "--burst"
        raise click.UsageError(f"{option} is for quotas; add --type api_quota, or leave it out")
    type_of = ResourceType(kind)
    return StoredResource(
        id=name,
        name=name,
        type=kind,
        capacity=read_amount(capacity, type_of, UNIT, path="--capacity"),
        per_us=_per_us(per) if is_quota else None,
        burst=read_amount(burst, type_of, UNIT, path="--burst") if burst is not None else None,
        tat_us=0,
        offline=False,
        peak=0,
        description=description,
        limits={},
        metadata={},
        created_us=SystemClock().now_us(),
    )


def _check_name(name: str) -> None:
    from codomyrmex.logistics.orchestration.project.resource_amounts import WORDS, machine_type

    if _NAME.fullmatch(name) is None:
        raise click.UsageError(f"{name!r} is no name; letters, digits and _ . - are, a letter or _ first")
    if name in WORDS and machine_type(WORDS[name]) is None:
        _refuse(
            name,
            "NAME",
            f"{name!r} is the word for {WORDS[name]} in steps",
            advice=f"name that: {WORDS[name]}",
        )
    if name in WORDS or machine_type(name) is not None:
        advice = "take another name; how much the machine has is set by `resources.*` in config.toml"
        _refuse(name, "NAME", f"{name!r} is what the machine has, or the word for it", advice=advice)
    if name.startswith("x-"):
        _refuse(name, "NAME", "steps cannot ask for it: keys that begin with x- are ignored there")


def _per_us(per: str | None) -> int:
    from codomyrmex.logistics.orchestration.project.amounts import read_duration_s
    from codomyrmex.logistics.orchestration.project.resource_forms import MAX_PERIOD_S

    try:
        seconds = read_duration_s(per) if per is not None else _PER_S
    except ValueError:
        _refuse(str(per), "--per", f"not a duration: {per!r}", advice="write 60s, 1m, 1h30m, 500ms")
    if not 0.001 <= seconds <= MAX_PERIOD_S:
        _refuse(str(per), "--per", "a quota is per 1ms at least and per ten years at most")
    return round(seconds * 1_000_000)


def _refuse(got: str, place: str, message: str, *, advice: str | None = None) -> NoReturn:
    raise ValidationError(
        [Fault(message=message, path=place, code="wrong_value", got=got, advice=advice)], subject="the line"
    )
