"""``python -m leaderboard``: the pages served by Streamlit; options are those of its ``run``.

What pages import is imported before the server starts, or its first visitor would wait for it.
"""

import gc
import sys
from pathlib import Path

from harness.home import home, results
from maec.errors import InputError


def main() -> None:
    try:
        home(), results()
    except InputError as error:
        print(f"leaderboard: {error}", file=sys.stderr)
        sys.exit(2)
    import altair  # noqa: F401
    import pandas  # noqa: F401
    from streamlit.web import cli

    import harness.ranked  # noqa: F401
    import leaderboard.look_into
    import leaderboard.ranked_table
    import leaderboard.ranking_files
    import leaderboard.reported
    import leaderboard.shell  # noqa: F401

    # statsmodels collects garbage in every test, and would look through all these modules each time
    gc.freeze()
    sys.argv[:1] = ["streamlit", "run", str(Path(__file__).with_name("app.py"))]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
