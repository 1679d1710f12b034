"""Taking in a released set of others: checked file by file, then copied, whole or not at all.

A set comes to lie beside one's own in ``results``, where everything that reads a set finds it. It
does not go into the live store: a cell there is a score that this machine measured, and ``run``
does not measure it again.
"""

import shutil
from pathlib import Path

import duckdb

from harness.home import results
from harness.store.check import contradictions
from harness.store.release import (
    MANIFEST,
    TABLES,
    Manifest,
    open_release,
    read_manifest,
    require_name,
    require_released,
)
from maec.errors import InputError
from maec.folder import new_folder, require_new, require_space

_OBJECTS = {
    "runs": ("matrix_file", "versions", "hardware", "engine"),
    "artifacts": ("manifest",),
    "cells": ("metrics", "engine"),
    "items": ("filtered",),
    "sweeps": ("space", "start"),
    "trials": ("parameters", "by_language"),
}
"""The columns that hold a JSON object, or nothing where the schema lets them."""


def bring_in(folder: Path, name: str | None = None) -> Path:
    """Copy the set in ``folder`` to ``results/NAME``, by default its own name; returns where.

    Only the manifest and the files that it names are copied. A manifest vouches for files, not for
    who wrote it: where a set comes from, its reader has to know.

    Raises:
        InputError: the set is partial, altered, contradicts itself or is of a newer schema, a link
            stands for a file, there is such a set already, or the disk is full.
    """
    if (folder / MANIFEST).is_symlink():
        raise InputError(f"{folder / MANIFEST}: is a link; get the set as files")
    manifest = read_manifest(folder)
    name = name or manifest.release
    require_name("--as", name)
    path = results() / name
    require_new(path)
    with open_release(folder, whole=True) as connection:
        require_consistent(folder, manifest, connection)
    require_space(path, manifest.nbytes)
    with new_folder(path) as scratch:
        for file, entry in manifest.files.items():
            shutil.copyfile(folder / file, scratch / file, follow_symlinks=False)
            require_released(scratch / file, entry)  # what was checked is what was copied
        shutil.copyfile(folder / MANIFEST, scratch / MANIFEST, follow_symlinks=False)
        if read_manifest(scratch) != manifest:
            raise InputError(f"{folder / MANIFEST}: changed while it was read; import it again")
    return path


def require_consistent(
    folder: Path, manifest: Manifest, connection: duckdb.DuckDBPyConnection
) -> None:
    """Raise InputError unless the set in ``folder``, opened, holds what its manifest says."""
    for table in TABLES:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        if rows != manifest.rows(table):
            raise InputError(
                f"{folder}: {table} has {rows} rows where the manifest has {manifest.rows(table)}; "
                "get the set again"
            )
    for table, columns in _OBJECTS.items():
        for column in columns:
            other = f"json_type({column}) NOT IN ('OBJECT', 'NULL')"
            if connection.execute(f"SELECT 1 FROM {table} WHERE {other} LIMIT 1").fetchone():
                raise InputError(f"{folder}: {table}.{column} is no JSON object; get the set again")
    for what, cells in contradictions(connection).items():
        raise InputError(f"{folder}: {what}: '{min(cells)}'; get the set again")
