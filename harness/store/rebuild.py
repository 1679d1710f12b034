"""A store that is damaged, contradicts itself or is gone is put together again.

Nothing is deleted: the file that was there is set aside. What cannot be restored is left out, so
that the next run scores it again.
"""

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import pyarrow as pa

from harness import artifacts
from harness.home import home, snapshot_path, store_path
from harness.store import records
from harness.store.check import BROKEN, MISPLACED, copy_of
from harness.store.read import reader
from harness.store.source import sources
from maec.errors import Damaged, InputError
from maec.folder import SCRATCH

_SHARED = ("runs", "artifacts", "questions", "sweeps", "sweep_questions", "trials")
"""What a snapshot has more of than a store that lost rows, in an order that references allow."""


def rebuild() -> Path | None:
    """Put a new store in the place of the one there; returns where that was set aside, if any.

    The new one starts as the old one or, if that is damaged, as the newest snapshot. It gets what
    records, snapshot and artifacts' manifests have more, and cells of released sets that runs of
    this store scored; and it keeps no cell that contradicts itself.

    For a process that is :func:`~harness.store.lock.alone`.

    Raises:
        InputError: the store is of a newer version, or another program uses it.
    """
    with TemporaryDirectory(prefix=SCRATCH, dir=home()) as folder:
        for path in filter(Path.is_file, (store_path(), snapshot_path())):
            try:
                return _rebuilt(path, Path(folder))
            except Damaged:
                for rest in Path(folder).iterdir():
                    rest.unlink()
        return _rebuilt(None, Path(folder))


def _rebuilt(start: Path | None, folder: Path) -> Path | None:
    path = start or folder / store_path().name
    with copy_of(path, folder) as connection:
        for _ in range(2):  # what contradicts itself goes, and comes back as it was recorded
            _take_records(connection)
            if start != snapshot_path():
                _take_snapshot(connection)
            for source in sources():
                if source.kind == "release":
                    _take_release(connection, source.path)
            _drop(connection)
        _take_manifests(connection)
        for query in MISPLACED.values():
            connection.execute(f"UPDATE placements SET cell = NULL WHERE cell IN ({query})")
    return _replace(folder / path.name)


def _drop(connection: duckdb.DuckDBPyConnection) -> None:
    """Leave out cells that contradict themselves, with their items."""
    cells = {cell for query in BROKEN.values() for (cell,) in connection.execute(query).fetchall()}
    for table, column in (("items", "cell"), ("cells", "key")):
        connection.execute(
            f"DELETE FROM {table} WHERE {column} IN (SELECT unnest(?))", [sorted(cells)]
        )


def _take_records(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("BEGIN")
    for kind in records.KINDS:
        counted = records.counts(connection, kind)
        for name in sorted(records.names(kind)):
            with suppress(Damaged):
                rows = records.read(records.path_of(kind, name))
                if records.sizes(rows) != counted.get(name):
                    for table, found in rows.items():
                        _add(connection, table, pa.Table.from_pylist(found))
    connection.execute("COMMIT")


def _take_snapshot(connection: duckdb.DuckDBPyConnection) -> None:
    # it may be damaged, too
    with suppress(InputError, duckdb.Error), reader() as snapshot:
        if snapshot is not None:
            for table in _SHARED:
                _add(connection, table, snapshot.sql(f"FROM {table}").to_arrow_table())
            _take_cells(connection, snapshot, "SELECT key FROM cells")


def _take_release(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """A cell of a set belongs into a store that knows its run: it was scored here."""
    runs = [run for (run,) in connection.execute("SELECT run_id FROM runs").fetchall()]
    with suppress(InputError), reader(path) as released:
        query = "SELECT key FROM cells WHERE run_id IN (SELECT unnest(?))"
        _take_cells(connection, released, query, [runs])


def _take_cells(
    connection: duckdb.DuckDBPyConnection,
    other: duckdb.DuckDBPyConnection,
    query: str,
    values: Sequence[Any] = (),
) -> None:
    known = _cells(connection)
    wanted = [key for (key,) in other.execute(query, list(values)).fetchall() if key not in known]
    for table, column in (("cells", "key"), ("items", "cell")):
        where = f"SELECT * FROM {table} WHERE {column} IN (SELECT unnest(?))"
        _add(connection, table, other.sql(where, params=[wanted]).to_arrow_table())


def _cells(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {key for (key,) in connection.execute("SELECT key FROM cells").fetchall()}


def _take_manifests(connection: duckdb.DuckDBPyConnection) -> None:
    """Those of artifacts that were made, for the first time or again, when a run was killed."""
    rows = connection.execute("SELECT key, manifest FROM artifacts").fetchall()
    known = {key: json.loads(manifest) for key, manifest in rows}
    shared = ("key", "kind", "label", "fingerprint", "created")
    for folder, manifest in artifacts.manifests():
        if known.get(folder.name) == manifest:
            continue
        row = {name: manifest[name] for name in shared} | {"path": str(folder)}
        connection.execute("DELETE FROM artifacts WHERE key = ?", [folder.name])
        rows = [{**row, "manifest": json.dumps(manifest, ensure_ascii=False)}]
        _add(connection, "artifacts", pa.Table.from_pylist(rows))


def _add(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    """Add the rows that are not there yet."""
    if len(rows):
        # DuckDB finds them by the name of the variable
        connection.execute(f"INSERT OR IGNORE INTO {table} BY NAME SELECT * FROM rows")


def _replace(new: Path) -> Path | None:
    """Put the file ``new`` in the store's place, and what is there aside."""
    path = store_path()
    aside = path.with_stem(f"{path.stem}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    log = path.with_name(f"{path.name}.wal")
    if log.is_file():  # the new store must not find it
        log.rename(aside.with_name(f"{aside.name}.wal"))
    there = path.is_file()
    if there:
        os.link(path, aside)  # so that at every moment there is a store
    os.replace(new, path)
    return aside if there else None
