"""Artifacts between this MAEC_HOME and an object store that other machines share.

What lies in the store is remembered here by pointers, with which a step counts as made; its files
are fetched by :func:`harness.artifacts.require_sound` when they are needed, once.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from harness import artifacts, object_store, pointers
from harness.alone import alone
from harness.manifests import SEAL, sealed
from harness.object_store import require_reachable
from harness.pointers import Pointer
from harness.steps import Step

__all__ = ["Pointer", "known", "learn", "publish", "require_reachable", "take"]


def publish(step: Step, url: str) -> Pointer:
    """Have the store at ``url`` hold the artifact of a step, which was made; says where it lies.

    What is there already is not sent again; what an upload that broke off left there is.

    Raises:
        Damaged: the artifact is no longer what was written.
        OSError: the store cannot be reached, or it failed underway.
    """
    url = url.rstrip("/")
    with alone(step):
        if not step.here and (found := pointers.read(step)) is not None and found.url == url:
            return found
        artifacts.require_sound(step)
        pointer = Pointer(url, _sealed(step))
        if not object_store.holds(pointer):
            object_store.upload(pointer, step.folder)
        pointers.write(pointer)
    return pointer


def learn(steps: Iterable[Step], url: str) -> None:
    """Remember what of ``steps`` lies in the store at ``url``, and forget what no longer does.

    Asks for one listing a kind, and for the manifests of what was not known yet.

    Raises:
        OSError: the store cannot be reached.
    """
    url = url.rstrip("/")
    kinds: dict[str, dict[str, Step]] = {}
    for step in steps:
        if step.path is None:
            kinds.setdefault(step.kind, {})[step.key] = step
    for kind, asked in kinds.items():
        there = object_store.listing(url, kind)
        unknown: list[tuple[str, str]] = []
        for key, step in asked.items():
            found, seals = pointers.read(step), there.get(key, [])
            at_url = found is not None and found.url == url
            if at_url and found.manifest[SEAL] in seals:
                continue
            if at_url:
                pointers.drop(step)
            if not step.here:
                unknown += [(key, seal) for seal in seals]
        learned = object_store.pointers(url, kind, unknown)
        # of several makings every machine takes the same
        for pointer in {pointer.manifest["key"]: pointer for pointer in learned}.values():
            pointers.write(pointer)


def known(steps: Iterable[Step]) -> list[Pointer]:
    """What is remembered of ``steps``, for :func:`take` on another machine."""
    found = (pointers.read(step) for step in steps if step.path is None)
    return [pointer for pointer in found if pointer is not None]


def take(steps: Iterable[Step], given: Iterable[Pointer]) -> None:
    """Remember what another machine knows of ``steps``, in place of what was known here.

    A copy here that has other weights than the one meant is set aside.

    Raises:
        Damaged: a manifest here cannot be read.
    """
    meant = {pointer.manifest["key"]: pointer for pointer in given}
    for step in (step for step in steps if step.key in meant):
        pointer = meant[step.key]
        with alone(step):
            if step.here and _weights(_sealed(step)) != _weights(pointer.manifest):
                artifacts.set_aside(step.folder)
            if pointers.read(step) != pointer:
                pointers.write(pointer)


def _sealed(step: Step) -> dict[str, Any]:
    """The manifest of an artifact that is here; older ones had no seal."""
    made = artifacts.manifest(step.folder)
    return made if SEAL in made else sealed(made, step.folder)


def _weights(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Digests of weights; other files say where and when it was made."""
    found = manifest["digests"].items()
    return {name: value for name, value in found if name.endswith(".safetensors")}
