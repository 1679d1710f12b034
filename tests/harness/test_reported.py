"""Numbers of others are read as their files say, or refused in one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from harness import reported
from maec.errors import InputError
from tests.conftest import CHECKOUT

SHIPPED = CHECKOUT / "results" / "reported"

FILE: dict[str, Any] = {
    "source": {"title": "T", "authors": "A", "year": 2022, "url": "https://example.org/a"},
    "checked": "by hand",
    "ability": "math",
    "task": "MGSM",
    "metric": "accuracy",
    "numbers": [{"system": "S", "setting": "direct", "where": "p. 3", "values": {"es": 56.8}}],
}


def write(folder: Path, content: object, name: str = "a.yaml") -> Path:
    (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def test_the_shipped_numbers_agree_with_the_averages_of_their_tables() -> None:
    found = reported.load(SHIPPED)
    wide = found.pivot(index=["system", "setting"], columns="language", values="value")
    high, low = ["de", "fr", "es", "ru", "zh", "ja"], ["th", "te", "bn", "sw"]
    printed = {  # HRL and URL of Table 3
        ("PaLM-540B", "Direct"): (19.3, 16.8),
        ("PaLM-540B", "Native-CoT"): (47.9, 44.9),
        ("PaLM-540B", "EN-CoT"): (52.3, 46.8),
        ("PaLM-540B", "Translate-EN"): (56.3, 51.2),
    }
    seen = 0
    for (system, setting), row in wide.iterrows():
        if averages := printed.get((system, setting.split(",")[0])):
            seen += 1
            assert row[high].mean() == pytest.approx(averages[0], abs=0.051)
            assert row[low].mean() == pytest.approx(averages[1], abs=0.051)
    assert seen == len(printed)
    counted = found[found["n"].notna()]
    right = counted["value"] * counted["n"].astype(int) / 100
    assert (right - right.round()).abs().max() < 1e-6  # whole items, as 250 allow them
    nemotron = {"Nemotron-4 15B": 41.3, "Mistral 7B, run by the report's authors": 21.8}
    for system, average in nemotron.items():
        (row,) = wide.loc[[system]].to_numpy()
        assert pd.Series(row).mean() == pytest.approx(average, abs=0.051)
    assert found["url"].str.startswith("https://").all() and (found["where"] != "").all()


def test_a_file_becomes_rows(tmp_path: Path) -> None:
    (row,) = reported.load(write(tmp_path, FILE)).to_dict("records")
    assert (row["system"], row["language"], row["value"]) == ("S", "es", 56.8)
    assert (row["where"], row["year"], row["n"]) == ("p. 3", 2022, None)
    assert reported.load(tmp_path / "none").empty
    assert list(reported.load(tmp_path / "none")) == reported.COLUMNS


def changed(place: str, value: object) -> Callable[[], dict]:
    def change() -> dict:
        content = yaml.safe_load(yaml.safe_dump(FILE))
        *way, last = place.split(".")
        part = content
        for step in way:
            part = part[int(step) if step.isdigit() else step]
        if value is None:
            del part[last]
        else:
            part[last] = value
        return content

    return change


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            changed("numbers.0.values", {"es": 156.8}),
            "numbers[0].values.es: found 156.8; must be less",
        ),
        (
            changed("numbers.0.values", {"es": "many"}),
            "values.es: found 'many'; must be a valid number",
        ),
        (changed("numbers.0.values", {False: 3}), "found False; must be text"),  # `no` in YAML
        (
            changed("numbers.0.values", {"Spanish": 3}),
            "values.Spanish: found 'Spanish'; must match",
        ),
        (changed("numbers.0.values", {}), "numbers[0].values: "),
        (changed("numbers.0.values", {"es": float("nan")}), "numbers[0].values.es"),
        (changed("numbers.0.were", "p. 3"), "'numbers[0].were'; did you mean 'where'?"),
        (changed("numbers.0.where", None), "numbers[0].where: is missing"),
        (changed("source.url", "arxiv"), "source.url: found 'arxiv'; must match"),
        (changed("source.year", "soon"), "source.year: found 'soon'; must be a valid integer"),
        (changed("checked", None), "checked: is missing"),
        (changed("n", 0), "n: found 0; must be greater"),
        (lambda: [1], "the file: found [1]; must be a mapping"),
        (lambda: None, "the file: found None; must be a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: Callable, said: str) -> None:
    with pytest.raises(InputError) as caught:
        reported.load(write(tmp_path, content()))
    text = str(caught.value)
    assert said in text and "a.yaml" in text and "\n" not in text


def test_no_yaml_and_numbers_that_stand_there_twice_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.yaml: this is not YAML"):
        reported.load(tmp_path)
    write(tmp_path, FILE)
    write(tmp_path, FILE, "b.yaml")
    with pytest.raises(
        InputError, match=r"b\.yaml: numbers: S, direct, MGSM, es stands there twice"
    ):
        reported.load(tmp_path)
