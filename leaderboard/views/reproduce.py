"""Reproduce and cite: for any score, what made it, how to make it again, how to cite it."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from harness import cite
from harness.store import view
from leaderboard import data, rerun, shell
from leaderboard.text import number, plain
from maec.card import CITATION


def main() -> None:
    shown = shell.current()
    shell.title("Reproduce and cite", "What made a score, how to make it again, how to cite it.")
    rows = shown.rows()
    if shell.unscored(rows):
        return
    row = _chosen(rows[rows["score"].notna()])
    cell = data.ask(view.provenance, shown.path, row["cell"])
    if cell is None:
        shell.missing("This cell is not in the source any more.", "Reload the page.")
        return
    manifests = data.ask(view.manifests, shown.path, [row["model_key"]])
    _score(row, cell)
    left, right = st.columns(2)
    with left:
        _task(cell)
        _surroundings(cell)
    with right:
        _run_again(cell, row, shown.matrix)
        _cite(cell, row, shown)
    _steps(row["model_key"], manifests)


def _chosen(rows: pd.DataFrame) -> pd.Series:
    places = st.columns(4)
    for place, column in zip(places, ("method", "ability", "language", "seed"), strict=True):
        values = [str(value) for value in rows[column].unique()]
        # keys of its own: on other pages a name may also be "any"
        key = f"score_{column}"
        found = place.selectbox(column.capitalize(), values, key=key, bind="query-params")
        rows = rows[rows[column].astype(str) == found]
    return rows.iloc[0]


def _score(row: pd.Series, cell: dict[str, Any]) -> None:
    error = f" ± {100 * cell['stderr']:.1f}" if cell["stderr"] is not None else ""
    st.metric(
        f"% correct, n = {cell['n']:,} items, ± standard error over items",
        f"{number(100 * cell['score'])}{error}",
    )
    st.caption(f"{plain(row['title'])}, scored {cell['created']:%Y-%m-%d %H:%M}")


def _task(cell: dict[str, Any]) -> None:
    st.subheader("Model and task")
    _facts(
        {
            "model fingerprint": cell["fingerprint"],
            "task": cell["task"],
            "task version": cell["task_version"],
            "task data": cell["task_data"],
            "metric": f"{cell['metric']}, filter {cell['filter']}",
            "engine": json.dumps(cell["engine"], ensure_ascii=False),
            "seconds to score": f"{cell['seconds']:.1f}",
            "cell": cell["key"],
        }
    )


def _surroundings(cell: dict[str, Any]) -> None:
    st.subheader("Run")
    run = cell["run"]
    if run is None:
        shell.missing("The run of this cell is not in this source.", "")
        return
    commit = run["commit"] or "not known"
    hardware = run["hardware"] or {}
    memory = hardware.get("memory")
    machine = [
        hardware.get("processor", ""),
        f"{hardware.get('cores', '?')} cores",
        f"{memory / 2**30:.0f} GiB" if memory else "",
        *hardware.get("gpus", []),
    ]
    _facts(
        {
            "run": run["run_id"],
            "status": run["status"],
            "started": f"{run['started']:%Y-%m-%d %H:%M}" if run["started"] else "",
            "commit": f"{commit}{', with changed files' if run['dirty'] else ''}",
            "hardware": ", ".join(filter(None, machine)),
            "versions": ", ".join(f"{k} {v}" for k, v in (run["versions"] or {}).items()),
        }
    )


def _facts(values: dict[str, str]) -> None:
    """Names and values as text, one a line."""
    width = max(map(len, values))
    lines = [f"{name.ljust(width)}  {value}" for name, value in values.items() if value]
    st.code("\n".join(lines), language=None, wrap_lines=True)


def _run_again(cell: dict[str, Any], row: pd.Series, matrix: str) -> None:
    st.subheader("Run it again")
    if cell["run"] is not None:
        st.caption("The whole matrix, from nothing, with this file:")
        st.download_button(
            "Matrix file", lambda: rerun.matrix_yaml(cell["run"]), f"{matrix}.yaml", "text/yaml",
            key="_download_matrix", on_click="ignore", icon=":material/download:",
        )  # fmt: skip
        st.code(rerun.again(cell["run"], matrix), language="bash", wrap_lines=True)
    st.caption("The same questions to the same model, with lm-eval alone:")
    tasks = ((cell["run"] or {}).get("matrix_file") or {}).get("tasks") or {}
    chat = bool(tasks.get(row["asked"], {}).get("chat_template"))
    command = rerun.ask_again(cell, row["model_path"], chat_template=chat)
    st.code(command, language="bash", wrap_lines=True)


def _cite(cell: dict[str, Any], row: pd.Series, shown: shell.View) -> None:
    st.subheader("Cite")
    released = shown.path.is_dir()
    if released:
        st.caption("The released set")
        st.code(cite.set_bibtex(shown.path), language=None, wrap_lines=True)
    st.caption("The run")
    st.code(cite.run_bibtex(cell, shown.matrix), language=None, wrap_lines=True)
    st.caption("The method MAEC")
    st.code(CITATION, language=None, wrap_lines=True)
    st.caption("For a section on methods")
    said = cite.sentence(cell, row.to_dict(), shown.source if released else None)
    st.code(said, language=None, wrap_lines=True)


def _steps(key: str, manifests: dict[str, dict[str, Any]]) -> None:
    st.subheader("Recipe")
    if key not in manifests:
        shell.missing("The store has no manifest of this model.", "A base model is used as it is.")
        return
    st.caption("All steps behind the model, the last first; settings as they are hashed")
    rows = [
        {
            "step": name,
            "kind": manifest.get("kind"),
            "what": manifest.get("label"),
            "seconds": manifest.get("seconds"),
            "MB": (manifest.get("bytes") or 0) / 1e6 if manifest.get("bytes") else None,
            "inputs": ", ".join(f"{k}: {v}" for k, v in manifest.get("inputs", {}).items()),
            "fingerprint": manifest.get("fingerprint"),
        }
        for name, manifest in manifests.items()
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "seconds": st.column_config.NumberColumn(format="%.1f"),
            "MB": st.column_config.NumberColumn(format="%.1f"),
        },
    )
    with st.expander("Settings and corpora of every step"):
        kept = ("kind", "label", "settings", "inputs", "corpora", "tokens", "versions")
        recipe = {
            name: {k: manifest[k] for k in kept if k in manifest}
            for name, manifest in manifests.items()
        }
        st.code(json.dumps(recipe, indent=1, ensure_ascii=False), language="json")


main()
