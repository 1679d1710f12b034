"""Where the pages' data lies, and how it is read: cached until the file is another one."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from harness import store
from harness.home import snapshot_path
from harness.store import Source


def sources() -> list[Source]:
    """What can be looked at, the live store first; alone, it need not have been written yet.

    At least one; names are unique, since a link names its source.
    """
    return store.sources() or [Source("this store", snapshot_path(), "store")]


def stamp(path: Path) -> int:
    """When what is at ``path`` was last written (ns since 1970); 0 where nothing is.

    A snapshot is replaced as a whole, a released set never changes but by hand.
    """
    files = [path, *path.iterdir()] if path.is_dir() else [path]
    return max((file.stat().st_mtime_ns for file in files if file.exists()), default=0)


def ask(function: Callable[..., Any], path: Path, *values: Any) -> Any:
    """``function(path, *values)``, remembered as long as ``path`` has not been written again."""
    name = f"{function.__module__}.{function.__qualname__}"
    return _asked(function, name, str(path), stamp(path), values)


def ask_once(function: Callable[..., Any], path: Path, *values: Any) -> Any:
    """``function(path, *values)``, not remembered: for what is large and only passed on."""
    # DuckDB shares one instance among connections to a path: one that is still open would show
    # the old file under the new file's stamp
    with _one_at_a_time():
        return function(path, *values)


@st.cache_data(max_entries=100, show_spinner=False)
def _asked(_function: Callable[..., Any], name: str, path: str, stamp: int, values: tuple) -> Any:
    return ask_once(_function, Path(path), *values)


@st.cache_resource(show_spinner=False)
def _one_at_a_time() -> threading.RLock:
    return threading.RLock()
