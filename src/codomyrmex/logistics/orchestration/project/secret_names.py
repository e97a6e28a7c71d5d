"""How variables are named that hold secrets, and which ones everybody may see.

Layer: pure. What such a variable holds goes where secrets go, and nowhere else: `${env.NAME}` does not name it,
and workers do not inherit it.
"""

from __future__ import annotations

from collections.abc import Mapping

SECRET_VARIABLES = "CODOMYRMEX_SECRET_"  # noqa: S105 - a beginning of names, no secret


def visible(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that `${env.NAME}` may name."""
    return {name: value for name, value in environ.items() if not name.startswith(SECRET_VARIABLES)}
