"""A package as an installer leaves it, for tests of methods that another package brings."""

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, package: str, methods: Mapping[str, str]) -> None:
    """Into the folder ``site``: version 1.2 of ``package``, with a module a method."""
    for folder in (site / package, site / f"{package}-1.2.dist-info"):
        folder.mkdir(parents=True)
    (site / package / "__init__.py").touch()
    listed = []
    for name, code in methods.items():
        module = name.replace("-", "_")
        (site / package / f"{module}.py").write_text(code, encoding="utf-8")
        listed.append(f"{name} = {package}.{module}")
    info = site / f"{package}-1.2.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    text = "\n".join(["[maec.methods]", *listed, ""])
    (info / "entry_points.txt").write_text(text, encoding="utf-8")
