"""What lock files hold."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
LANES = ("cpu", "gpu")

_PIN = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?P<version>\S+)", re.MULTILINE)


def locked(lane: str) -> dict[str, str]:
    """Versions by name, in the order of the lane's lock file."""
    text = (FOLDER / f"{lane}.txt").read_text(encoding="utf-8")
    return {found["name"]: found["version"] for found in _PIN.finditer(text)}


def public(version: str) -> str:
    """A version without what a build adds to it, as advisories and registries know it."""
    return version.partition("+")[0]
