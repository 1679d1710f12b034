"""Live: what is running, what is done and left, and how long that may take."""

from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from harness.store import view
from leaderboard import data, shell
from leaderboard.remaining import time_left, words
from leaderboard.text import counted, plain

# how often the page looks for a new snapshot; a look at an unchanged file costs nothing
EVERY = "2s"

SIGNS = {
    "running": ":material/sync:",
    "done": ":material/check_circle:",
    "failed": ":material/error:",
    "interrupted": ":material/pause_circle:",
}

NEXT = {
    "failed": "Some of the work failed: `harness run` says which, and tries it again.",
    "interrupted": "It was interrupted: `harness run` goes on where it was.",
}


def main() -> None:
    shell.title("Live", "What is running now, what is done and left.")
    _runs()


@st.fragment(run_every=EVERY)
def _runs() -> None:
    found = data.ask(view.progress, shell.current().path)
    if not found:
        shell.missing("Nothing was run yet.", "Run `make matrix`.")
        return
    running = [run for run in found if run["status"] == "running"]
    if not running:
        st.info("Nothing is running. The newest runs are below; `harness run MATRIX` starts one.")
    for run in running:
        _running(run)
    st.subheader("Runs")
    for run in [run for run in found if run["status"] != "running"][:20]:
        _ended(run)


def _running(run: dict[str, Any]) -> None:
    left = run["placed"] - run["scored"]
    with st.container(border=True):
        st.markdown(f"{SIGNS['running']} **{plain(run['matrix'])}**, {plain(run['run_id'])}")
        share = run["scored"] / run["placed"] if run["placed"] else 0.0
        st.progress(share, text=f"{run['scored']:,} of {run['placed']:,} cells are scored")
        now = datetime.now(UTC)
        one, two, three = st.columns(3)
        one.metric("Running for", words(now - run["started"]))
        two.metric("Left", counted(left, "cell"))
        estimate = time_left(run["started"], run["last"], now, run["cells"], left)
        three.metric(
            "Time left, about",
            words(estimate) if estimate is not None else "not known yet",
            help="The cells that are left, at the pace of those that this run has scored",
        )
        if run["last"] and now - run["last"] > timedelta(minutes=15):
            st.caption(
                f"No new score for {words(now - run['last'])}: it may be training, or it was "
                "killed, which leaves it listed as running. `harness run` goes on where it was."
            )


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
