"""Live: what is running, what is done and left, and how long that may take."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st
from rich.filesize import decimal

from harness import live_status
from harness.home import home, snapshot_path
from harness.store import view
from leaderboard import data, shell
from leaderboard.remaining import time_left, words
from leaderboard.text import counted, plain
from maec.visible import visible

# how often the page looks for a new snapshot; a look at an unchanged file costs nothing
EVERY = "2s"

SIGNS = {
    "running": ":material/sync:",
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "interrupted": ":material/pause_circle:",
    "killed": ":material/error:",
}

NEXT = {
    "killed": "It was killed: `harness run` goes on where it was.",
    "failed": "Some of the work failed; see below.",
    "interrupted": "It was interrupted: `harness run` goes on where it was.",
}


def main() -> None:
    shell.title("Live", "What is running now, what is done and left.")
    _runs()


@st.fragment(run_every=EVERY)
def _runs() -> None:
    path = shell.current().path
    found = data.ask(view.progress, path)
    # beside the scores, which come by snapshots: what the run itself says, from second to second
    status = live_status.read(home()) if path == snapshot_path() else None
    if not found:
        shell.missing("Nothing was run yet.", "Run `make matrix`.")
        return
    running = [run for run in found if run["status"] == "running"]
    if status and status["state"] == "crashed":
        # the store cannot know: a killed run says nothing any more
        lost = [run for run in running if run["run_id"] == status["run_id"]]
        running = [run for run in running if run not in lost]
        for run in lost:
            run["status"] = "killed"
    if not running:
        st.info("Nothing is running. The newest runs are below; `harness run MATRIX` starts one.")
    for run in running:
        _running(run, status if status and status["run_id"] == run["run_id"] else None)
    st.subheader("Runs")
    for run in [run for run in found if run["status"] != "running"][:20]:
        _ended(run)
    _failed(data.ask(view.failures, path))


def _failed(failures: list[dict[str, Any]]) -> None:
    if not failures:
        return
    st.subheader("Failed")
    st.caption("The next run tries again what is marked so; the rest, with `--retry-failed`.")
    for failure in failures[:20]:
        again = "" if failure["lasting"] else ":material/refresh: "
        st.markdown(f"{again}**{plain(failure['label'])}**: {plain(failure['message'])}")


def _running(run: dict[str, Any], status: dict[str, Any] | None) -> None:
    left = run["placed"] - run["scored"]
    with st.container(border=True):
        st.markdown(f"{SIGNS['running']} **{plain(run['matrix'])}**, {plain(run['run_id'])}")
        share = run["scored"] / run["placed"] if run["placed"] else 0.0
        st.progress(share, text=f"{run['scored']:,} of {run['placed']:,} cells are scored")
        now = datetime.now(UTC)
        one, two, three = st.columns(3)
        one.metric("Running for", words(now - run["started"]))
        two.metric("Left", counted(left, "cell"))
        estimate = _estimate(run, status, now, left)
        three.metric(
            "Time left, about",
            words(estimate) if estimate is not None else "not known yet",
            help="What is left, cells or training, at the pace of what this run has done",
        )
        if status:
            _doing(status)
        elif run["last"] and now - run["last"] > timedelta(minutes=15):
            st.caption(
                f"No new score for {words(now - run['last'])}: it may be training, or it was "
                "killed, which leaves it listed as running. `harness run` goes on where it was."
            )


def _estimate(
    run: dict[str, Any], status: dict[str, Any] | None, now: datetime, left: int
) -> timedelta | None:
    """By the run itself, where it says so; else by the scores in the store."""
    if status and status["seconds_left"] is not None:
        since = now.timestamp() - status["written"]
        return timedelta(seconds=max(status["seconds_left"] - since, 0))
    return time_left(run["started"], run["last"], now, run["cells"], left)


def _doing(status: dict[str, Any]) -> None:
    """Steps in work, and what was said last."""
    steps = status["steps"]
    if steps["total"]:
        share = min(steps["done"] / steps["total"], 1.0)
        st.progress(share, text=f"{share:.0%} of the training that was missing is done")
    for step in status["working"]:
        if step["unit"] == "byte":
            place = f"{decimal(step['done'])} of {decimal(step['total'])}"
        else:
            place = f"step {step['done']:,} of {step['total']:,}"
        share = step["done"] / max(step["total"], 1)
        st.progress(share, text=f"{plain(step['label'])}: {place}")
    if status["said"]:
        lines = [f"{entry['kind']:<7} {entry['text']}" for entry in status["said"]]
        st.code(visible("\n".join(lines)), language=None)


def _ended(run: dict[str, Any]) -> None:
    took = words(run["finished"] - run["started"]) if run["finished"] else "unknown time"
    sign = SIGNS.get(run["status"], "")
    left = run["placed"] - run["scored"]
    st.markdown(
        f"{sign} **{plain(run['matrix'])}**, {plain(run['status'])}: "
        f"{counted(run['cells'], 'cell')} scored in {took}; {plain(run['run_id'])}"
    )
    if run["status"] in NEXT and left:
        st.caption(f"{counted(left, 'cell')} of the matrix left. {NEXT[run['status']]}")


main()
