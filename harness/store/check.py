"""Whether a store or a released set is sound: can all be read, does it contradict itself?"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from harness.store.schema import is_damage, prepare, refusal, unwritable, version_of
from maec.errors import Damaged, InputError

BROKEN = {
    "a cell has another number of items than it says": """
        SELECT c.key FROM cells c LEFT JOIN items i ON i.cell = c.key
        GROUP BY c.key, c.n HAVING count(i.item) <> c.n""",
    "items belong to no cell": "SELECT i.cell FROM items i ANTI JOIN cells c ON c.key = i.cell",
    "a score is not the share of its items that are right": """
        SELECT c.key FROM cells c JOIN items i ON i.cell = c.key
        GROUP BY c.key, c.score HAVING abs(c.score - avg(i.correct::INT)) > 1e-6""",
    "a score is not the bits per byte of its texts": """
        SELECT c.key FROM cells c JOIN items i ON i.cell = c.key WHERE c.metric = 'bits_per_byte'
        GROUP BY c.key, c.score
        HAVING abs(c.score + sum(i.loglikelihoods[1]) / sum(strlen(i.gold)) / ln(2)) > 1e-6""",
    "a cell's run is not recorded": "SELECT c.key FROM cells c ANTI JOIN runs r USING (run_id)",
}
"""What makes no sense of a cell, in a store or a set; a query for the cells of which it is true."""

MISPLACED = {
    "a score that a matrix shows is not there": """
        SELECT p.cell FROM placements p ANTI JOIN cells c ON c.key = p.cell
        WHERE p.cell IS NOT NULL""",
    "a matrix shows a score of other weights than its model has now": """
        SELECT p.cell FROM placements p JOIN cells c ON c.key = p.cell
        JOIN artifacts a ON a.key = p.model_key WHERE a.fingerprint <> c.fingerprint""",
}
"""What makes no sense of where a cell stands in a matrix."""

_KEYS = """
    SELECT table_name, constraint_column_names[1] FROM duckdb_constraints()
    WHERE constraint_type = 'PRIMARY KEY' AND table_name NOT IN (
        SELECT referenced_table FROM duckdb_constraints() WHERE referenced_table IS NOT NULL)
"""
"""A column of the primary key of every table to which no other refers."""


@contextmanager
def copy_of(path: Path, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A copy in ``folder`` of the store at ``path``, with the schema of today, all of it read.

    The copy is named as the store is, and is whole on the disk when the block has ended.

    Raises:
        Damaged: the store cannot be read.
        InputError: it is of a newer version, or another program uses it.
    """
    copy, connection = folder / path.name, None
    for suffix in ("", ".wal"):  # what a killed run had committed last
        source = path.with_name(path.name + suffix)
        try:
            with suppress(FileNotFoundError, shutil.SameFileError):
                shutil.copyfile(source, folder / source.name)
        except OSError as error:
            raise InputError(unwritable(folder, error.strerror)) from None
    try:
        connection = duckdb.connect(str(copy))
        prepare(connection, path)
        _read_all(connection)
    except duckdb.Error as error:
        if connection is not None:
            connection.close()
        raise (Damaged if is_damage(error) else InputError)(refusal(path, error)) from None
    with connection:
        yield connection


def version_at(path: Path) -> int:
    """The schema version of the store at ``path``, as it is.

    Raises:
        Damaged: it is none that can be read.
    """
    try:
        with duckdb.connect(str(path), read_only=True) as connection:
            return version_of(connection)
    except duckdb.Error as error:
        raise Damaged(refusal(path, error)) from None


def _read_all(connection: duckdb.DuckDBPyConnection) -> None:
    """Read every block once, which is when DuckDB compares its checksum."""
    for (table,) in connection.execute("SHOW TABLES").fetchall():
        connection.execute(f"SELECT bit_xor(hash(t)) FROM {table} t")
    for table, column in connection.execute(_KEYS).fetchall():
        # an index is read where a key is changed
        connection.execute("BEGIN")
        connection.execute(f"UPDATE {table} SET {column} = {column}")
        connection.execute("ROLLBACK")


def contradictions(connection: duckdb.DuckDBPyConnection) -> dict[str, set[str]]:
    """What is wrong with which cells, of all that is looked for here; empty where all is well."""
    found = {
        what: {cell for (cell,) in connection.execute(query).fetchall()}
        for what, query in (MISPLACED | BROKEN).items()
    }
    return {what: cells for what, cells in found.items() if cells}
