"""Released sets: a folder of Parquet files and a manifest that vouches for them.

A table is one file, or numbered parts of at most some 40 MB, which git hosts take. A set is read as
a store is: an in-memory DuckDB whose tables are views on the files. Nothing in a manifest is a
path: a file is one of a table's, and lies in the set's own folder.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.store.schema import MIGRATIONS, RELEASED, prepare, quote
from maec.errors import InputError
from maec.reading import read_json
from maec.strict import wrong

TABLES = ("runs", "artifacts", "cells", "items", "placements", "sweeps", "trials")
"""What a set holds; the store's other tables say which questions belong to whom, and are empty."""

MANIFEST = "manifest.json"

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What a set may be called: the name of a folder, wherever it is read."""

_FILE = re.compile(rf"({'|'.join(TABLES)})(?:-([1-9][0-9]*))?\.parquet")
"""A table's file, or one of its parts: ``items.parquet``, or ``items-1.parquet`` and so on."""


class File(BaseModel):
    """What a manifest says about one file."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    rows: int = Field(ge=0)
    bytes: int = Field(ge=0)


class Manifest(BaseModel):
    """What a set is: whose figures, made by what, under which licence; ``files`` by their names.

    ``commit``, ``dirty`` and ``versions`` are those of the program that wrote the set; ``runs`` has
    those of every run whose scores are in it. ``fingerprints`` are of models, by step key, and
    ``tasks`` names the version and the data of every task. Sets from before there were authors or
    tasks in a manifest name none.
    """

    model_config = ConfigDict(frozen=True)

    release: str = Field(pattern=f"^{NAME}$")
    authors: list[str] = Field(default_factory=list)
    schema_version: int = Field(ge=1)
    created: str
    licence: str
    commit: str | None
    dirty: bool | None
    versions: dict[str, str]
    matrices: dict[str, dict[str, Any]]
    runs: dict[str, dict[str, Any]]
    fingerprints: dict[str, str]
    tasks: dict[str, dict[str, str]] = Field(default_factory=dict)
    files: dict[str, File]

    def rows(self, table: str) -> int:
        """How many rows a table has, over all its files."""
        return sum(self.files[name].rows for name in by_table(self.files)[table])

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(file.bytes for file in self.files.values())


def require_name(where: str, name: str) -> None:
    """Raise InputError unless a set can be called ``name``."""
    if not re.fullmatch(NAME, name):
        raise InputError(
            f"{where}: '{name}' is no name for a folder: up to 100 letters, digits, '.', '_' and "
            "'-' are allowed, a letter or digit first"
        )


def by_table(names: Iterable[str]) -> dict[str, list[str]]:
    """The files of each table in their order.

    Raises:
        ValueError: a name that is none of a table's, a table without a file, or missing parts.
    """
    parts: dict[str, dict[int, str]] = {table: {} for table in TABLES}
    for name in names:
        found = _FILE.fullmatch(name)
        if found is None:
            raise ValueError(f"'{name}' is not allowed, only {', '.join(TABLES)} as .parquet")
        parts[found[1]][int(found[2] or 0)] = name
    for table, found in parts.items():
        numbers = set(found)
        if not numbers or numbers not in ({0}, set(range(1, len(numbers) + 1))):
            raise ValueError(f"'{table}.parquet' is not named, or not all of its parts")
    return {table: [found[n] for n in sorted(found)] for table, found in parts.items()}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a set, checked but for its files.

    Raises:
        InputError: there is none, it is not whole, or a newer program wrote it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{path}: cannot be read; name the folder of a released set")
    try:
        manifest = Manifest.model_validate(read_json(path))
    except InputError as error:
        raise InputError(f"{error}; {_AGAIN}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise InputError(f"{path}: {where}: {wrong(first)}; {_AGAIN}") from None
    if manifest.schema_version > len(MIGRATIONS):
        raise InputError(
            f"{path}: schema_version: this set has {manifest.schema_version}, this program reads "
            f"1 to {len(MIGRATIONS)}; use a newer program"
        )
    return manifest


def open_release(folder: Path, *, whole: bool = False) -> duckdb.DuckDBPyConnection:
    """A connection with the set's tables under today's schema, after checking every file.

    A file is hashed once in a process, and again when it was touched. The connection reads these
    files, and touches no others. ``whole`` reads all of them first, so that every value is of its
    column's type and keeps the schema's rules.

    Raises:
        InputError: a file is missing, is not the one that was released, or holds other things.
    """
    manifest = read_manifest(folder)
    files = _checked(folder, manifest)
    connection = duckdb.connect(config=_CLOSED)
    try:
        for migration in MIGRATIONS[: manifest.schema_version]:
            connection.execute(migration)
        connection.execute("INSERT INTO schema_version VALUES (?)", [manifest.schema_version])
        if manifest.schema_version >= RELEASED and not whole:
            _view(connection, files)
        else:
            _load(connection, files)
        prepare(connection, folder)
        paths = ", ".join(f"'{quote(path)}'" for part in files.values() for path in part)
        # a setting takes no parameters
        connection.execute(
            f"SET allowed_paths = [{paths}]; SET enable_external_access = false; "
            "SET lock_configuration = true"
        )
    except duckdb.Error as error:
        connection.close()
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{folder}: not a readable set ({reason}); {_AGAIN}") from None
    return connection


_AGAIN = "get the set again"

_CLOSED = {"autoinstall_known_extensions": False, "autoload_known_extensions": False}
"""No file makes DuckDB fetch code."""


def _checked(folder: Path, manifest: Manifest) -> dict[str, list[Path]]:
    """The files of the set by table, each the one that was released."""
    try:
        tables = by_table(manifest.files)
    except ValueError as error:
        raise InputError(f"{folder / MANIFEST}: files: {error}; {_AGAIN}") from None
    for name, entry in manifest.files.items():
        require_released(folder / name, entry)
    return {table: [folder / name for name in names] for table, names in tables.items()}


def require_released(path: Path, entry: File) -> None:
    """Raise InputError unless the file at ``path`` is the one that a manifest's entry describes."""
    # a link could lead out of the folder
    if path.is_symlink() or not path.is_file():
        raise InputError(f"{path}: there is no such file in this set; {_AGAIN}")
    state = path.stat()
    sha256 = hashed(path, state.st_mtime_ns)
    if sha256 != entry.sha256:
        raise InputError(
            f"{path}: altered since it was released: SHA-256 {sha256[:12]}… where the manifest "
            f"has {entry.sha256[:12]}…; {_AGAIN}"
        )


@lru_cache(maxsize=256)
def hashed(path: Path, modified: int) -> str:
    """SHA-256 of a file that was ``modified`` then (ns); remembered until it is touched."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _view(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[Path]]) -> None:
    """Put a view on its files in place of every table, with the table's names and types."""
    columns: dict[str, list[str]] = {}
    for table, name, kind in connection.execute(
        "SELECT table_name, column_name, data_type FROM duckdb_columns() "
        "WHERE NOT internal ORDER BY table_name, column_index"
    ).fetchall():
        columns.setdefault(table, []).append(f'"{name}"::{kind} AS "{name}"')
    for table in reversed(TABLES):  # trials refer to sweeps
        # a view takes no parameters
        paths = ", ".join(f"'{quote(path)}'" for path in files[table])
        source = f"read_parquet([{paths}])"
        connection.execute(
            f"DROP TABLE {table}; "
            f"CREATE VIEW {table} AS SELECT {', '.join(columns[table])} FROM {source}"
        )


def _load(connection: duckdb.DuckDBPyConnection, files: Mapping[str, Sequence[Path]]) -> None:
    """Fill the tables, whose rules DuckDB then checks."""
    for table in TABLES:
        connection.execute(
            f"INSERT INTO {table} BY NAME SELECT * FROM read_parquet(?)",
            [[str(path) for path in files[table]]],
        )
