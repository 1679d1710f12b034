"""What the pages' theme cannot say: directions of writing, phones, and less of Streamlit."""

import streamlit as st

# Text from models stands in the direction of its own first letter, line by line: Arabic and Hebrew
# from the right, all else from the left, as dir="auto" does.
CSS = """
<style>
[data-testid="stText"], [data-testid="stText"] *, [data-testid="stCode"] code {
  unicode-bidi: plaintext; text-align: start; }
[data-testid="stText"] { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; }
[data-testid="stAppDeployButton"], [data-testid="stHeaderActionElements"] { display: none; }
[data-testid="stMainBlockContainer"] { padding-top: 3rem; padding-bottom: 3rem; }
@media (max-width: 640px) {
  [data-testid="stMainBlockContainer"] { padding: 3.5rem 0.9rem 2rem; }
}
</style>
"""

HIGHLIGHT = "background-color: rgba(0, 158, 115, 0.22)"
"""Of the best and what is not shown to be worse; reads on light and on dark."""

GREY = "color: #808080"
"""Of what was not measured here; reads on light and on dark."""


def apply() -> None:
    """Put the style on the page; it holds nothing that comes from data."""
    st.html(CSS)
