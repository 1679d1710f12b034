"""How long a run may still take, and spans of time in words."""

from datetime import datetime, timedelta


def time_left(
    started: datetime, last: datetime | None, now: datetime, done: int, left: int
) -> timedelta | None:
    """At the pace of the ``done`` cells until the ``last`` of them; None before the first.

    What has passed since the last score is taken off, down to nothing.
    """
    if not done or last is None:
        return None
    expected = (last - started) / done * left - (now - last)
    return max(expected, timedelta(0))


def words(span: timedelta) -> str:
    """'12 s', '3 min 20 s', '2 h 5 min'."""
    seconds = max(round(span.total_seconds()), 0)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
