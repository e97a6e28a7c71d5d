"""Which devices an attempt gets, and how it is told.

Layer: pure. Whole devices go by index; a part of one goes where the least is left that suffices, and never
spans two: 0.75 and 0.75 on two devices leave no room for 0.5. A list that this process inherited
(CUDA_VISIBLE_DEVICES) is what its devices are counted by: our `gpu-1` is the second entry of it, be that a
number, a UUID or the name of a MIG instance.

On AMD, ROCR_VISIBLE_DEVICES is applied first and HIP_VISIBLE_DEVICES (or, without it, CUDA_VISIBLE_DEVICES)
counts what is left. So HIP's list is always given beside the others and names all that ROCR leaves.
Source: ROCm, "GPU isolation techniques"; CUDA C++ programming guide, "CUDA environment variables".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codomyrmex.logistics.orchestration.project.resource_request import GPU, UNIT

CUDA, ROCR, HIP, ORDER = (
    "CUDA_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
)
_PREFIX = f"{GPU}-"


def choose(free: Mapping[str, int], amount: int) -> tuple[str, ...] | None:
    """The ids that can give `amount` ten-thousandths, in order of index; None when they cannot now.

    `free` may hold other resources too; they are passed over. ValueError for a negative amount and for one
    above a device that is not a number of whole ones: it never fits anywhere.
    """
    if amount < 0 or (amount > UNIT and amount % UNIT):
        raise ValueError(f"not whole devices, and not a part of one: {amount}")
    if amount == 0:
        return ()
    devices = sorted((gpu_index(name), name) for name in free if _is_gpu(name))
    if amount < UNIT:
        fitting = [(free[name], index, name) for index, name in devices if free[name] >= amount]
        return (min(fitting)[2],) if fitting else None
    count = amount // UNIT
    whole = tuple(name for _, name in devices if free[name] >= UNIT)
    return whole[:count] if len(whole) >= count else None


def gpu_index(name: str) -> int:
    """3 of `gpu-3`; ValueError for another id."""
    if not _is_gpu(name):
        raise ValueError(f"not the id of a GPU: {name!r}")
    return int(name[len(_PREFIX) :])


def gpu_environment(ids: Sequence[str], inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that show an attempt these devices and no others; `inherited` is our own environment."""
    if not ids:
        return {CUDA: "", ROCR: ""}
    cuda = visible_entries(inherited.get(CUDA))
    amd = next((inherited[name] for name in (ROCR, HIP, CUDA) if inherited.get(name)), None)
    return {
        CUDA: _listed(ids, cuda),
        ROCR: _listed(ids, visible_entries(amd)),
        HIP: ",".join(str(place) for place in range(len(ids))),
        ORDER: "PCI_BUS_ID",
    }


def visible_entries(text: str | None) -> tuple[str, ...] | None:
    """The entries of a list of visible devices, up to an empty one; None without a list: all are visible."""
    if text is None:
        return None
    entries = [entry.strip() for entry in text.split(",")]
    return tuple(entries[: entries.index("")] if "" in entries else entries)


def _listed(ids: Sequence[str], entries: Sequence[str] | None) -> str:
    # Beyond the list stands only what the settings say is there: then the number of the device has to do.
    known = entries or ()
    places = [gpu_index(name) for name in ids]
    return ",".join(known[place] if place < len(known) else str(place) for place in places)


def _is_gpu(name: str) -> bool:
    return name.startswith(_PREFIX) and name[len(_PREFIX) :].isdecimal()
