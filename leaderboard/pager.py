"""Pages of a long list: SQL fetches one page at a time, the address says which."""

import streamlit as st


def pager(total: int, size: int, what: str, key: str = "page") -> int:
    """Ask for a page of ``total`` things, ``size`` a page; returns the offset of its first."""
    last = max(1, -(-total // size))
    # a filter may have left fewer pages than the one that was looked at
    if st.session_state.get(key, 1) > last:
        st.session_state[key] = last
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    page = int(left.number_input("Page", 1, last, key=key, bind="query-params"))
    offset = (page - 1) * size
    right.caption(f"{offset + 1:,}–{min(offset + size, total):,} of {total:,} {what}")
    return offset
