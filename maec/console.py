"""The terminal as all commands write to it."""

from __future__ import annotations

from collections.abc import Iterable

from rich import console
from rich.segment import Segment

from maec.visible import visible


class Console(console.Console):
    """rich's, on which no text of others steers the terminal, whatever it is a part of."""

    def render(
        self,
        renderable: console.RenderableType,
        options: console.ConsoleOptions | None = None,
    ) -> Iterable[Segment]:
        """As rich does; its own control codes are kept, those in texts are written out."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)
