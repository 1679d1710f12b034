"""What a test sees of a page, and of the store behind it."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import duckdb
import pandas as pd
from streamlit.testing.v1 import AppTest


def query(snapshot: Path, sql: str, *values: object) -> list[tuple]:
    with duckdb.connect(str(snapshot), read_only=True) as connection:
        return connection.execute(sql, list(values)).fetchall()


def table(app: AppTest, index: int = 0) -> pd.DataFrame:
    return app.dataframe[index].value


def said(app: AppTest) -> str:
    kinds = (app.caption, app.markdown, app.info, app.title, app.text, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def link(app: AppTest) -> dict[str, list[str]]:
    """What the link to the view says."""
    said = next(str(text.value) for text in app.sidebar.markdown if "Link to" in str(text.value))
    return parse_qs(urlsplit(said.split("](")[1].removesuffix(")")).query)
