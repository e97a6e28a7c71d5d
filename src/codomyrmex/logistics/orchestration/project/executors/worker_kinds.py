"""What makes two workers alike, and the environment that a worker starts with.

Layer: executors; pure. Everything that an interpreter or a library reads once, when it starts, belongs to
the kind of a worker, and no worker changes its kind: variables that the user chose, how many threads numeric
libraries may start, the devices that can be seen, what is inherited at all, the limit of the address space.

From weak to strong: what the engine was started with, thread caps (an inherited smaller number stays),
devices, what the step says itself in `env`. Values of secrets that the engine has in its own environment are
not inherited: an action gets those that it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from codomyrmex.logistics.orchestration.project.executors.attempt import Attempt
from codomyrmex.logistics.orchestration.project.secret_names import SECRET_VARIABLES

THREAD_CAPS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
"""What numeric libraries read, once, to know how many threads to start."""
KINDS_AT_MOST = 1000
"""When there are more, all are forgotten; workers of a forgotten kind go when they have been idle for a while."""
_DEVICES = "_VISIBLE_DEVICES"
_START_ONLY = ("PYTHONPATH", "PYTHONHASHSEED", "LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_DEVICE_ORDER")
_START_ONLY_ENDS = ("_NUM_THREADS", "_MAX_THREADS", "_MAXIMUM_THREADS", _DEVICES)
_BASIC: Final = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("VIRTUAL_ENV", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONUSERBASE", "PYTHONNOUSERSITE"),
        *("PYTHONUTF8", "PYTHONIOENCODING", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"),
        *("PYTHONPYCACHEPREFIX", "CODOMYRMEX_ATTEMPT", "CODOMYRMEX_IMPORTING", "CUDA_DEVICE_ORDER"),
    )
)
"""What any program needs, and what tells a program inside an attempt where it is."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WorkerKind:
    """What two interchangeable workers have in common; compared by identity (see `WorkerKinds`).

    `environment` is what the user chose; `inherited` names what is inherited besides what any program needs,
    None being everything; `address_bytes` limits the address space of each process, 0 does not.
    """

    python: str
    roots: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    threads: int = 0
    devices: tuple[tuple[str, str], ...] = ()
    inherited: tuple[str, ...] | None = None
    address_bytes: int = 0
    holds_devices: bool = False
    """It sees a device, so its memory there is free again only when it has ended."""


class WorkerKinds:
    """One object for each kind that has been asked for."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._kinds: dict[tuple[Any, ...], WorkerKind] = {}

    def of(self, attempt: Attempt) -> WorkerKind:
        """The kind of worker that an attempt needs."""
        env, devices = attempt.env, attempt.gpu_env
        key = (
            attempt.python,
            attempt.roots,
            attempt.threads,
            None if devices is None else (*devices.items(),),
            attempt.clean_env,
            attempt.memory_bytes if attempt.memory_hard else 0,
            (*filter(_counts_at_start, env.items()),) if env else (),
        )
        return self._kinds.get(key) or self._remember(key)

    def plain(self, python: str | None, roots: tuple[str, ...]) -> WorkerKind:
        """The kind that an attempt with these and nothing else needs."""
        key = (python, roots, 0, None, None, 0, ())
        return self._kinds.get(key) or self._remember(key)

    def _remember(self, key: tuple[Any, ...]) -> WorkerKind:
        """The kind of a key, which stands for what the user wrote; the order of variables makes no kind."""
        python, roots, threads, devices, inherited, address_bytes, chosen = key
        plain = (
            python or self._python,
            roots,
            threads,
            tuple(sorted(devices or ())),
            None if inherited is None else tuple(sorted(set(inherited))),
            address_bytes,
            tuple(sorted(chosen)),
            "kind",
        )
        found = self._kinds.get(plain)
        if len(self._kinds) > KINDS_AT_MOST:
            self._kinds = {}
        if found is None:
            made = WorkerKind(
                python=plain[0],
                roots=roots,
                environment=plain[6],
                threads=threads,
                devices=plain[3],
                inherited=plain[4],
                address_bytes=address_bytes,
                holds_devices=any(value and name.endswith(_DEVICES) for name, value in plain[3]),
            )
            found = self._kinds.setdefault(plain, made)
        self._kinds[key] = found
        return found


def starting_environment(kind: WorkerKind, base: Mapping[str, str]) -> dict[str, str]:
    """The variables that a worker of this kind starts with, in an engine that has those of `base`."""
    found = {name: value for name, value in base.items() if _is_inherited(name, kind.inherited)}
    if kind.threads:
        found.update((name, _smaller(base.get(name, ""), kind.threads)) for name in THREAD_CAPS)
    found.update(kind.devices)
    found.update(kind.environment)
    return found


def _is_inherited(name: str, named: Iterable[str] | None) -> bool:
    if named is None:
        return not name.startswith(SECRET_VARIABLES)
    # Limits that the engine was given hold for what it starts, however little else is handed on.
    return name in _BASIC or name in named or name.startswith("LC_") or name.endswith(_START_ONLY_ENDS)


def _smaller(inherited: str, threads: int) -> str:
    """The inherited number of threads where that is smaller; OpenMP takes one for each level: `4,2`."""
    first = inherited.partition(",")[0].strip()
    return inherited if first.isdecimal() and 0 < int(first) <= threads else str(threads)


def _counts_at_start(item: tuple[str, str]) -> bool:
    return item[0] in _START_ONLY or item[0].endswith(_START_ONLY_ENDS)
