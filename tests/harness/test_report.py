"""A report says what was planted in the store, no more, and the same each time."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from harness import cli, store
from harness.report import document
from harness.report.facts import load
from tests.harness.test_store import cell, items

N = 60
DATE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
FAMILIES = {
    "base": ("Base model", "reference"),
    "tv": ("Task arithmetic", "merging"),
    "f-cpt-a": ("Full CPT, ability", "training-based"),
    "t-cpt": ("CPT on translated ability data", "training-based"),
    "ties": ("TIES", "merging"),
    "maec": ("MAEC", "maec"),
    "maec-no-mask": ("MAEC, every parameter a key neuron", "ablation"),
    "maec-no-beta": ("MAEC, nothing subtracted", "ablation"),
    "maec-no-select": ("MAEC, every tensor selected", "ablation"),
}
RIGHT = {
    "base": 3, "tv": 39, "f-cpt-a": 15, "t-cpt": 60, "ties": 40, "maec": 40,
    "maec-no-mask": 10, "maec-no-beta": 40, "maec-no-select": 58,
}  # fmt: skip
"""Of the first items in each target language in seed 0; seed 1 has one more, but for full ones."""


def right(method: str, seed: int) -> int:
    return min(N, RIGHT[method] + seed)


def put(
    writer: store.Writer,
    method: str,
    verdicts: list[bool] | None,
    variant: str = "",
    **where: object,
) -> dict:
    """Commit a cell, unless it has no verdicts; its row."""
    title, family = FAMILIES[method]
    row = {
        "variant": variant, "method": method, "title": title, "family": family, "ability": "math",
        "asked": "math", "language": "es", "seed": 0, "model_key": f"{method}-model",
        "model_path": "/m", "cell": None, **where,
    }  # fmt: skip
    if verdicts is None:
        return row
    place = (variant, row["ability"], row["asked"], row["language"], row["seed"])
    key = "-".join(map(str, (method, *place)))
    score = float(np.mean(verdicts))
    known = {"score": score, "n": len(verdicts), "created": DATE, "model_key": row["model_key"]}
    writer.commit_cell(cell(key, **known), items(key, verdicts))
    return {**row, "cell": key}


def answers(count: int, size: int = N) -> list[bool]:
    return [index < count for index in range(size)]


def place_scores(writer: store.Writer, hole: bool = False) -> list[dict]:
    return [
        put(
            writer,
            method,
            None
            if hole and (method, language, seed) == ("ties", "te", 1)
            # in English everybody is right
            else answers(N if language == "en" else right(method, seed)),
            language=language,
            seed=seed,
        )
        for method in FAMILIES
        for language in ("en", "es", "te")
        for seed in (0, 1)
    ]


@pytest.fixture
def writer(home: Path) -> Iterator[store.Writer]:
    with store.writer() as writer:
        yield writer


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with all scores of the matrix, made once; tests work on copies."""
    folder = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MAEC_HOME", str(folder))
        with store.writer() as writer:
            writer.place("mine", place_scores(writer))
            writer.snapshot(now=True)
    return folder


@pytest.fixture
def scored(stored: Path, home: Path) -> Iterator[store.Writer]:
    shutil.copytree(stored, home)
    with store.writer() as writer:
        yield writer


def text(name: str | None = None) -> str:
    return document.markdown(load(name))


def section(report: str, heading: str) -> str:
    return report.split(f"## {heading}\n", 1)[1].split("\n## ")[0]


def rows(markdown: str) -> dict[str, list[str]]:
    """The cells of the tables by the first of them."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    split = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in split}


def harness(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["harness", "report", *arguments])
    with pytest.raises(SystemExit) as exit:
        cli.main()
    return exit.value.code


def test_scores_are_means_over_seeds_with_their_deviation(scored: store.Writer) -> None:
    found = rows(section(text(), "Scores"))
    assert found["method"] == ["en", "es", "te", "targets", "known", "new"]
    shares = 100 * np.array([right("maec", seed) / N for seed in (0, 1)])
    expected = f"{shares.mean():.1f} ± {shares.std(ddof=1):.1f}"
    assert found["maec"][:4] == ["100.0 ± 0.0", expected, expected, expected]
    # odd items are known words
    known = [100 * np.mean(answers(right("maec", seed))[1::2]) for seed in (0, 1)]
    assert found["maec"][4] == f"{np.mean(known):.1f} ± {np.std(known, ddof=1):.1f}"


def test_ablations_say_the_planted_win_tie_and_loss(scored: store.Writer) -> None:
    said = section(text(), "Which steps of MAEC matter")
    found = rows(said)
    mask = 100 * np.mean([(right("maec", s) - right("maec-no-mask", s)) / N for s in (0, 1)])
    assert found["maec-no-mask"][4].startswith(f"+{mask:.1f} [")
    assert found["maec-no-mask"][-1] == "MAEC wins" and found["maec-no-mask"][5] == "+50.0, +50.0"
    assert "with every parameter a key neuron MAEC loses 50.0 points in math [" in said
    assert "]: this step matters." in said
    assert "with nothing subtracted MAEC changes by +0.0 points [0.0, 0.0] in math: no diff" in said
    assert "with every tensor selected MAEC gains 30.0 points in math [" in said
    assert "it is better without this step." in said
    assert "over the 3 rows" in said and "n = 2 seeds" in said


def test_the_interval_of_a_gain_has_the_sign_of_the_gain(scored: store.Writer) -> None:
    said = section(text(), "Which steps of MAEC matter")
    low, high = said.split("gains 30.0 points in math [")[1].split("]")[0].split(", ")
    assert 0 < float(low) < 30 < float(high)


def test_baselines_are_counted_and_what_is_not_beaten_is_said(scored: store.Writer) -> None:
    said = section(text(), "MAEC against baselines")
    assert (
        "- math: of 5 methods, MAEC wins against 2 (`base`, `f-cpt-a`), loses to 1 (`t-cpt`), "
        "no difference shown against 2 (`tv`, `ties`)."
    ) in said
    assert "**MAEC does not beat `tv` in math**: no difference shown (+1.7 points [" in said
    assert "does not beat `f-cpt-a`" not in said


def test_an_incomplete_row_is_blank_and_is_not_compared(writer: store.Writer) -> None:
    writer.place("mine", place_scores(writer, hole=True))
    writer.snapshot(now=True)
    report = text()
    found = rows(section(report, "Scores"))["ties"]
    assert found[2:] == ["", "", "", ""] and found[1] != ""
    said = section(report, "MAEC against baselines")
    assert "Not compared, since scores are missing: `ties`." in said
    assert "of 4 methods" in said and "ties" not in rows(said)


def test_sections_for_which_the_store_holds_nothing_are_left_out(scored: store.Writer) -> None:
    headings = [line for line in text().splitlines() if line.startswith("## ")]
    assert headings == ["## Scores", "## Which steps of MAEC matter", "## MAEC against baselines"]


def begin_run(writer: store.Writer, **changes: object) -> None:
    file = {
        "name": "mine", "base": "embedded", "pivot": "en", "split": "test",
        "engine": {"kind": "vllm", "dtype": "float32"},
        "methods": [
            {"name": "maec", "label": "maec", "k1": 0.4, "gamma": 1.2504, "abilities": {}},
            {"name": "tv", "label": "tv", "language_scale": 0.6,
             "abilities": {"math": {"language_scale": 0.8}}},
        ],
    }  # fmt: skip
    run = {
        "run_id": "r", "matrix": "mine", "matrix_file": file, "started": DATE, "commit": "c" * 40,
        "dirty": True, "versions": {"torch": "2.0"},
        "hardware": {"processor": "Abacus", "cores": 2, "memory": 2**32, "gpus": []}, **changes,
    }  # fmt: skip
    writer.begin_run(run)


def test_the_head_names_runs_software_and_the_embedded_world(scored: store.Writer) -> None:
    begin_run(scored)
    scored.finish_run("r", "done", DATE.replace(minute=5), {"start_seconds": 7.25})
    scored.snapshot(now=True)
    report = text()
    assert report.startswith("# mine\n") and "no verdict on models of 8B" in report
    assert "- seeds: 0, 1\n- scores: 54 of 54 cells" in report
    assert rows(section(report, "Runs"))["r"] == [
        "2026-01-02 03:04", "done", "cccccccccccc with changes", "Abacus, 2 cores, 4 GiB", "54",
        "60", "7.2", "",
    ]  # fmt: skip
    assert "Versions: torch 2.0." in report and "Engine: kind vllm, dtype float32." in report


def sweep(
    writer: store.Writer,
    method: str,
    trials: list[tuple[Mapping, int]],
    *,
    key: str = "",
    space: Mapping | None = None,
    day: int = 1,
) -> None:
    key = key or method
    writer.begin_sweep(
        {
            "key": key, "matrix": "mine", "method": method, "ability": "math", "seed": 0,
            "space": space or {}, "start": {}, "languages": ["es", "te"], "items": 20,
            "sampler": "s", "versions": {}, "commit": None, "created": DATE.replace(day=day),
        },
        ["question"],
        "here",
    )  # fmt: skip
    for number, (parameters, count) in enumerate(trials):
        writer.record_trial(
            {
                "sweep": key, "number": number, "parameters": parameters, "score": count / 20,
                "by_language": {"es": count / 20, "te": count / 20},
                "correct": answers(count, 20), "seconds": 1.0, "training_seconds": 0.0,
                "created": DATE,
            }
        )  # fmt: skip


def test_tuning_shows_start_choice_and_whether_it_was_used(scored: store.Writer) -> None:
    begin_run(scored)
    sweep(scored, "maec", [({"k1": 0.2, "gamma": 1.0}, 8), ({"k1": 0.4, "gamma": 1.25}, 15)])
    sweep(scored, "tv", [({"language_scale": 0.6}, 10), ({"language_scale": 0.7}, 12)])
    scored.snapshot(now=True)
    said = section(text(), "Equal tuning")
    shown, curves = (rows(part) for part in said.split("<details>"))
    errors = [100 * np.std(answers(k, 20), ddof=1) / np.sqrt(20) for k in (8, 15)]
    assert shown["maec"][3:6] == ["20", f"40.0 ± {errors[0]:.1f}", f"75.0 ± {errors[1]:.1f}"]
    assert shown["maec"][-2:] == ["k1: 0.4, gamma: 1.25", "yes"]
    assert shown["tv"][-1] == "no: language_scale: 0.8"
    assert "the same number of trials in every ability: 2." in said
    assert curves["tv"][1] == "1 (chosen)" and said.rstrip().endswith("</details>")


def test_unequal_tuning_is_said(scored: store.Writer) -> None:
    anywhere = {"k1": {"low": 0, "high": 1, "log": False}}
    sweep(scored, "maec", [({"k1": 0.2}, 8)], space=anywhere)
    sweep(scored, "tv", [({"language_scale": 0.6}, 10), ({"language_scale": 0.7}, 12)])
    scored.snapshot(now=True)
    assert "The numbers of trials differ: 1–2." in section(text(), "Equal tuning")


def test_fewer_trials_are_equal_tuning_where_there_are_no_more_points(
    scored: store.Writer,
) -> None:
    sweep(scored, "maec", [({"k1": 0.2}, 8)], space={"k1": [0.2]})
    anywhere = {"language_scale": {"low": 0, "high": 1, "log": False}}
    trials = [({"language_scale": 0.6}, 10), ({"language_scale": 0.7}, 12)]
    sweep(scored, "tv", trials, space=anywhere)
    scored.snapshot(now=True)
    said = section(text(), "Equal tuning")
    assert "trials in every ability: 2, or one for each of its points where it has fewer." in said


def test_the_newest_sweep_of_a_method_counts(scored: store.Writer) -> None:
    sweep(scored, "maec", [({"k1": 0.2}, 19)], key="older")
    sweep(scored, "maec", [({"k1": 0.4}, 9)], key="newer", day=2)
    scored.snapshot(now=True)
    said = section(text(), "Equal tuning")
    shown, curves = said.split("<details>")
    assert rows(shown)["maec"][-2] == "k1: 0.4" and "k1: 0.2" not in shown
    assert "1 earlier one is among the trials below" in shown
    assert "k1: 0.2" in curves and "k1: 0.4" in curves


def test_forgetting_is_the_change_against_the_base(writer: store.Writer) -> None:
    placed = place_scores(writer)
    bits = {"base": (1.0, 1.0), "maec": (1.25, 1.35)}
    others = {"base": (10, 10), "maec": (4, 6)}
    for method in bits:
        for language in ("en", "es", "te"):
            for seed in (0, 1):
                where = {"language": language, "seed": seed}
                row = put(writer, method, None, asked="text", **where)
                key = f"{method}-text-{language}-{seed}"
                known = {"score": bits[method][seed], "n": 7, "model_key": row["model_key"]}
                perplexity = {"word_perplexity,none": 2.0 + seed}
                writer.commit_cell(cell(key, **known, metrics=perplexity), [])
                placed.append({**row, "cell": key})
                right = answers(others[method][seed], 20)
                placed.append(put(writer, method, right, asked="science", **where))
    writer.place("mine", placed)
    writer.snapshot(now=True)
    said = section(text(), "Forgetting")
    assert "7 documents a language" in said and "20 items a language" in said
    change = np.array([0.25, 0.35])
    text_change = f"{change.mean():+.3f} ± {change.std(ddof=1):.3f}"
    points = np.array([-30.0, -20.0])
    other = f"{points.mean():+.1f} ± {points.std(ddof=1):.1f}"
    assert rows(said)["maec"] == [text_change, text_change, "2.5 ± 0.7", other, other]
    assert rows(said)["base"][0] == "+0.000 ± 0.000"


def artifact(writer: store.Writer, key: str, kind: str, **manifest: object) -> None:
    content = {"kind": kind, "inputs": {}, "corpora": [], "bytes": 2_000_000, **manifest}
    row = {"key": key, "kind": kind, "path": "/a", "manifest": content, "created": DATE}
    writer.record_artifact(row)


def trained(writer: store.Writer, key: str, tokens: int, **manifest: object) -> None:
    figures = {"tokens": tokens, "parameters": 1000, "seconds": tokens / 10}
    artifact(writer, key, "train", **{"inputs": {"start": "base-model"}, **figures, **manifest})


def test_costs_are_sums_over_all_that_a_model_is_made_of(scored: store.Writer) -> None:
    spanish = [{"ability": "math", "language": "es"}]
    trained(scored, "t-cpt-model", 1000, corpora=spanish)
    trained(scored, "language", 300)
    trained(scored, "ability", 500)
    pack = {"inputs": {"base": "base-model", "ability": "ability"}, "seconds": 1.5}
    artifact(scored, "pack", "extract", **pack)
    parts = {"base": "base-model", "pack math": "pack", "es": "language"}
    artifact(scored, "maec-model", "combine", inputs=parts, seconds=0.5, moved=[])
    scored.snapshot(now=True)
    report = text()
    said = section(report, "Cost")
    found = rows(said)
    maec = np.mean([right("maec", seed) / N for seed in (0, 1)])
    assert found["maec"][:4] == ["800", f"{6 * 1000 * 800:.3g}", "82.0", "8.0"]
    assert found["maec"][5:] == [f"{100 * maec:.0f}", "80", "82"]
    assert found["base"][:4] == ["0", "0", "0.0", "0.0"]
    # nothing is known of what was not recorded
    assert found["tv"][:4] == ["", "", "", ""] and found["tv"][4] != ""
    assert f"`maec` has {100 * maec:.0f} % of the accuracy of `t-cpt` at 80 % of its" in said
    assert "target languages: `t-cpt`." in section(report, "MAEC against baselines")


def test_what_moved_is_shown_by_layer_and_module_with_the_abilitys_name(
    scored: store.Writer,
) -> None:
    tensors = [
        (None, "embed", 100, 10, True),
        (0, "mlp", 100, 40, True),
        (0, "attn", 300, 10, False),
        (1, "mlp", 100, 20, True),
        (1, "attn", 300, 20, True),
    ]
    names = ("layer", "module", "parameters", "key_neurons", "selected")
    moved = [{"ability": "p", **dict(zip(names, row, strict=True))} for row in tensors]
    inputs = {"base": "base-model", "pack math": "p"}
    artifact(scored, "maec-model", "combine", inputs=inputs, seconds=1, moved=moved)
    scored.snapshot(now=True)
    said = section(text(), "What moved")
    assert "### `maec`, math, by layer (1 model)" in said
    found = rows(said)
    assert found["outside the layers"] == ["100", "10.0 ± 0.0", "10.0 ± 0.0", "100.0 ± 0.0"]
    assert found["0"] == ["400", "12.5 ± 0.0", "50.0 ± 0.0", "50.0 ± 0.0"]
    assert found["mlp"] == ["200", "30.0 ± 0.0", "60.0 ± 0.0", "100.0 ± 0.0"]


def test_variants_are_compared_at_each_point_and_holm_covers_all(writer: store.Writer) -> None:
    counts = {
        "small": {"maec": 40, "tv": 10, "base": 40},
        "large": {"maec": 40, "tv": 58, "base": 3},
    }
    placed = [
        put(writer, method, answers(count), point, language=language, model_key=f"{point}{method}")
        for point, own in counts.items()
        for method, count in own.items()
        for language in ("en", "es")
    ]
    writer.place("mine", placed)
    writer.snapshot(now=True)
    report = text()
    assert "MAEC against baselines" not in report
    said = section(report, "Variants")
    assert "over the 4 rows" in said and "There is one seed" in said
    assert "math, small: of 2 methods, MAEC wins against 1 (`tv`), loses to 0" in said
    assert "math, large: of 2 methods, MAEC wins against 1 (`base`), loses to 1 (`tv`)" in said
    assert "**MAEC does not beat `tv` in math, large**: it is significantly worse" in said
    assert rows(said.split("Percentage points")[0])["tv"] == ["16.7", "96.7"]


def test_the_command_writes_the_same_bytes_each_time(
    scored: store.Writer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    begin_run(scored)
    scored.snapshot(now=True)
    path = tmp_path / "deep" / "report.md"
    written = []
    for arguments in ([], ["mine"]):
        assert harness(monkeypatch, *arguments, "--out", str(path)) == 0
        assert capsys.readouterr().out.strip() == str(path)
        written.append(path.read_bytes())
    assert written[0] == written[1] and list(path.parent.iterdir()) == [path]


def test_a_report_goes_to_results_in_the_checkout_by_default(
    scored: store.Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(document, "CHECKOUT", tmp_path)
    assert document.write() == tmp_path / "results" / "mine.md"
    assert (tmp_path / "results" / "mine.md").read_text(encoding="utf-8") == text()


def test_a_half_written_report_never_stays(
    scored: store.Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out" / "report.md"
    path.parent.mkdir()
    path.write_text("before")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        document.write("mine", path)
    assert list(path.parent.iterdir()) == [path] and path.read_text() == "before"


def test_what_is_not_there_is_refused_in_one_line(
    scored: store.Writer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    for arguments, said in (
        (["mien"], "did you mean 'mine'? (scored: mine)"),
        (["--out", str(tmp_path)], "is a folder; name a file"),
        (["--out", "/dev/null/x.md"], "/dev/null/x.md: cannot be written: "),
    ):
        assert harness(monkeypatch, *arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.startswith("harness: ") and error.count("\n") == 1


def test_before_the_first_score_the_command_says_what_to_do(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    assert harness(monkeypatch) == 2
    error = capsys.readouterr().err
    assert "nothing was scored here yet; `harness run" in error and error.count("\n") == 1
