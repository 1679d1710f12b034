"""Write LICENCES.md: the licence of every locked package, as the package itself states it.

Packages of the other lane are asked of the index, which has their metadata apart from their files.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from locked import FOLDER, LANES, locked, public

HEAD = """# Licences of what is installed

Made by `make licences`. None of these packages is part of this project: `make setup` fetches them.
A licence is what the package's own metadata states, or its licence file.

## To be minded

Copyleft binds those who change or hand on the package itself, not those who call it; proprietary
packages are needed by the engine's builds, and their makers' terms hold for who uses them.
"""

KINDS = {
    "copyleft": r"GPL|GNU|MPL|Mozilla|EPL|CDDL|EUPL|OSL|CC-BY-SA",
    "proprietary": r"proprietary|nvidia|end user|intel",
    "not stated": r"^not stated$",
}


FILES = {"oss-harmony": "Apache-2.0", "setuptools": "MIT"}
"""What the licence files of packages are whose metadata states nothing."""


def main(python: str) -> None:
    """``python`` is that of the environment that is there."""
    lanes = {lane: locked(lane) for lane in LANES}
    wanted = {(name, version) for pins in lanes.values() for name, version in pins.items()}
    here = _licences(_pip("--python", python, "inspect", "--local")["installed"])
    missing = [f"{n}=={v}" for n, v in ((n, public(v)) for n, v in wanted) if (n, v) not in here]
    options = ("--dry-run", "--no-deps", "--ignore-installed", "--quiet", "--report", "-")
    there = _licences(_pip("install", *options, *missing)["install"]) if missing else {}
    rows = [
        (name, version, (here | there)[name, public(version)], _lanes(name, version, lanes))
        for name, version in sorted(wanted)
    ]
    minded = [(*row[:3], kind) for row in rows for kind in KINDS if _is(kind, row[2])]
    text = (
        HEAD
        + _table(("package", "version", "licence", "kind"), minded)
        + "\n## All\n"
        + _table(("package", "version", "licence", "lanes"), rows)
    )
    (FOLDER / "LICENCES.md").write_text(text, encoding="utf-8")


def _lanes(name: str, version: str, lanes: Mapping[str, Mapping[str, str]]) -> str:
    return ", ".join(lane for lane, pins in lanes.items() if pins.get(name) == version)


def _licence(metadata: Mapping[str, Any]) -> str:
    """An SPDX expression where there is one, else the shortest thing that is stated, if any."""
    if expression := metadata.get("license_expression"):
        return expression
    text = (metadata.get("license") or "").strip()
    classifiers = [c for c in metadata.get("classifier", []) if c.startswith("License :: ")]
    named = [c.rpartition(" :: ")[2] for c in classifiers if not c.endswith("OSI Approved")]
    if named and ("\n" in text or not text or text == "Dual License"):
        return " or ".join(named)
    return text.partition("\n")[0].strip()


def _is(kind: str, stated: str) -> bool:
    return re.search(KINDS[kind], stated, re.IGNORECASE if kind == "proprietary" else 0) is not None


def _licences(entries: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    found = {}
    for metadata in (entry["metadata"] for entry in entries):
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        stated = _licence(metadata) or FILES.get(name, "not stated")
        found[name, public(metadata["version"])] = stated
    return found


def _pip(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments], stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [columns, ["---"] * 4, *rows]
    return "".join(f"\n| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1])
