"""The store's tables, and how an older store is brought to those of today."""

from pathlib import Path

import duckdb

from maec.errors import InputError

_FIRST = """
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE runs (
    run_id VARCHAR PRIMARY KEY, matrix VARCHAR NOT NULL, matrix_file JSON NOT NULL,
    started TIMESTAMPTZ NOT NULL, finished TIMESTAMPTZ, status VARCHAR NOT NULL,
    commit VARCHAR, dirty BOOLEAN, versions JSON NOT NULL, hardware JSON NOT NULL,
    engine JSON);
CREATE TABLE artifacts (
    key VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, label VARCHAR, fingerprint VARCHAR,
    path VARCHAR NOT NULL, manifest JSON NOT NULL, created TIMESTAMPTZ NOT NULL);
CREATE TABLE cells (
    key VARCHAR PRIMARY KEY, model_key VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
    task VARCHAR NOT NULL, task_version VARCHAR NOT NULL, task_data VARCHAR NOT NULL,
    task_path VARCHAR NOT NULL, metric VARCHAR NOT NULL, filter VARCHAR NOT NULL,
    score DOUBLE NOT NULL, stderr DOUBLE, n INTEGER NOT NULL, metrics JSON NOT NULL,
    engine JSON NOT NULL, seconds DOUBLE NOT NULL, run_id VARCHAR NOT NULL,
    created TIMESTAMPTZ NOT NULL);
CREATE TABLE items (
    cell VARCHAR NOT NULL, item INTEGER NOT NULL, id VARCHAR NOT NULL, words VARCHAR,
    prompt VARCHAR NOT NULL, output VARCHAR, extracted VARCHAR, gold VARCHAR NOT NULL,
    correct BOOLEAN NOT NULL, choices VARCHAR[], loglikelihoods DOUBLE[], filtered JSON,
    PRIMARY KEY (cell, item));
CREATE TABLE placements (
    matrix VARCHAR NOT NULL, row INTEGER NOT NULL, method VARCHAR NOT NULL,
    title VARCHAR NOT NULL, family VARCHAR NOT NULL, ability VARCHAR NOT NULL,
    language VARCHAR NOT NULL, seed INTEGER NOT NULL, model_key VARCHAR NOT NULL,
    model_path VARCHAR NOT NULL, cell VARCHAR, PRIMARY KEY (matrix, row));
"""

_SECOND = """
CREATE TABLE items_2 (
    cell VARCHAR NOT NULL, item INTEGER NOT NULL, id VARCHAR NOT NULL, words VARCHAR,
    prompt VARCHAR NOT NULL, output VARCHAR, extracted VARCHAR, gold VARCHAR NOT NULL,
    correct BOOLEAN, choices VARCHAR[], loglikelihoods DOUBLE[], filtered JSON,
    PRIMARY KEY (cell, item));
INSERT INTO items_2 SELECT * FROM items;
DROP TABLE items;
ALTER TABLE items_2 RENAME TO items;
CREATE TABLE placements_2 (
    matrix VARCHAR NOT NULL, row INTEGER NOT NULL, variant VARCHAR NOT NULL,
    method VARCHAR NOT NULL, title VARCHAR NOT NULL, family VARCHAR NOT NULL,
    ability VARCHAR NOT NULL, asked VARCHAR NOT NULL, language VARCHAR NOT NULL,
    seed INTEGER NOT NULL, model_key VARCHAR NOT NULL, model_path VARCHAR NOT NULL, cell VARCHAR,
    PRIMARY KEY (matrix, row));
INSERT INTO placements_2 SELECT matrix, row, '', method, title, family, ability, ability, language,
    seed, model_key, model_path, cell FROM placements;
DROP TABLE placements;
ALTER TABLE placements_2 RENAME TO placements;
CREATE TABLE questions (
    question VARCHAR PRIMARY KEY, split VARCHAR NOT NULL CHECK (split IN ('dev', 'test')),
    UNIQUE (question, split));
CREATE TABLE sweeps (
    key VARCHAR PRIMARY KEY, matrix VARCHAR NOT NULL, method VARCHAR NOT NULL,
    ability VARCHAR NOT NULL, seed INTEGER NOT NULL, space JSON NOT NULL, start JSON NOT NULL,
    languages VARCHAR[] NOT NULL, items INTEGER NOT NULL, sampler VARCHAR NOT NULL,
    versions JSON NOT NULL, commit VARCHAR, created TIMESTAMPTZ NOT NULL);
CREATE TABLE sweep_questions (
    sweep VARCHAR NOT NULL, question VARCHAR NOT NULL,
    split VARCHAR NOT NULL DEFAULT 'dev' CHECK (split = 'dev'),
    PRIMARY KEY (sweep, question),
    FOREIGN KEY (question, split) REFERENCES questions (question, split));
CREATE TABLE trials (
    sweep VARCHAR NOT NULL REFERENCES sweeps (key), number INTEGER NOT NULL,
    parameters JSON NOT NULL, score DOUBLE NOT NULL, by_language JSON NOT NULL,
    correct BOOLEAN[] NOT NULL, seconds DOUBLE NOT NULL, training_seconds DOUBLE NOT NULL,
    created TIMESTAMPTZ NOT NULL, PRIMARY KEY (sweep, number));
"""

_THIRD = """
CREATE TABLE failures (
    key VARCHAR PRIMARY KEY, what VARCHAR NOT NULL CHECK (what IN ('step', 'cell')),
    label VARCHAR NOT NULL, message VARCHAR NOT NULL, lasting BOOLEAN NOT NULL,
    times INTEGER NOT NULL, run_id VARCHAR NOT NULL, created TIMESTAMPTZ NOT NULL);
"""

MIGRATIONS = (_FIRST, _SECOND, _THIRD)
"""From nothing to the schema of today; a store of version n has the first n of them behind it."""

RELEASED = 2
"""The first version in which the tables that released sets hold are those of today."""


def prepare(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Bring a new or older store to the schema of today, in one transaction."""
    tables = {row[0] for row in connection.execute("SHOW TABLES").fetchall()}
    version = version_of(connection) if "schema_version" in tables else 0 if not tables else None
    if version is None or version > len(MIGRATIONS):
        raise InputError(
            f"{path}: this store has schema version {version or 'none'}, this program reads "
            f"1 to {len(MIGRATIONS)}; name another folder with MAEC_HOME, or move the file away"
        )
    for number in range(version, len(MIGRATIONS)):
        connection.execute("BEGIN")
        connection.execute(MIGRATIONS[number])
        connection.execute("DELETE FROM schema_version")
        connection.execute("INSERT INTO schema_version VALUES (?)", [number + 1])
        connection.execute("COMMIT")


def version_of(connection: duckdb.DuckDBPyConnection) -> int | None:
    found = connection.execute("SELECT version FROM schema_version").fetchone()
    return found[0] if found else None


def is_damage(error: duckdb.Error) -> bool:
    """Whether an error says that a file is not what DuckDB wrote; its words alone tell."""
    words = str(error).lower()
    return any(said in words for said in _DAMAGE)


_DAMAGE = (
    *("corrupt", "could not read enough bytes", "not a valid duckdb database"),
    "this wal was created for",  # another state of the store, or another store
)


def refusal(path: Path, error: duckdb.Error) -> str:
    """Why a file could not be opened or read, and what to do, in one line."""
    reason = " ".join(str(error).split())[:200]
    if is_damage(error):
        return (
            f"{path}: this is not a readable store; `harness doctor --repair` restores it from "
            f"what lies beside it ({reason})"
        )
    return f"{path}: cannot be opened; is another program using it? ({reason})"


def unwritable(path: Path, reason: object) -> str:
    """What to say where a commit is not possible, in one line."""
    return (
        f"{path}: cannot be written ({' '.join(str(reason).split())}); what was committed is kept: "
        "make room, or mend the disk, and run the same command again"
    )


def quote(path: Path) -> str:
    return str(path).replace("'", "''")
