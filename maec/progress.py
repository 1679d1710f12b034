"""Progress of long work: silent for a library, a bar for a terminal."""

from collections.abc import Callable, Collection, Iterable

Progress = Callable[[int, int], None]
"""Is told how much is done, and how much there is in all."""

Track = Callable[[Collection[str], str], Iterable[str]]
"""Hands on the names it is given, one by one, showing how far the named work has come."""


def silent(names: Collection[str], work: str) -> Iterable[str]:
    """Show nothing."""
    return names


def bar(names: Collection[str], work: str) -> Iterable[str]:
    """A bar with the time left on stderr, if that is a terminal."""
    from rich.progress import track

    from maec.console import Console

    console = Console(stderr=True)
    return track(
        names, description=work, console=console, transient=True, disable=not console.is_terminal
    )
