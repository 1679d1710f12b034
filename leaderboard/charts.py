"""Charts, as pure functions from frames; names from data are values in them, never fields."""

import math
from collections.abc import Sequence

import altair as alt
import pandas as pd

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C8C8C")
"""Colours that are told apart with every kind of colour vision (Okabe and Ito 2008)."""

_CENTRED = {"labelAngle": 0, "labelFlush": False, "labelBound": False, "labelOverlap": False}
"""Labels of fields, each in the middle of its field."""

_AMOUNT = "datum.value === 0 ? '0' : format(datum.value, '~s')"
"""Each label with a prefix of its own, and none for 0."""

_TEXT = "#808080"
"""Of names in charts; reads on light and on dark."""

SCHEME = "cividis"
"""For amounts; dark is little."""


def heat_map(
    cells: pd.DataFrame,
    methods: Sequence[str],
    languages: Sequence[str],
) -> alt.LayerChart:
    """Methods × languages; ``cells`` is :func:`leaderboard.frames.long`, of one ability.

    A missing score is an empty field.
    """
    cells = cells.dropna(subset=["accuracy"])
    base = alt.Chart(cells).encode(
        x=alt.X("language:N", sort=list(languages), title=None, axis=alt.Axis(**_CENTRED)),
        y=alt.Y(
            "method:N", sort=list(methods), title=None, axis=alt.Axis(labelLimit=160, **_CENTRED)
        ),
        tooltip=[
            "method:N",
            "language:N",
            alt.Tooltip("accuracy:Q", format=".1f", title="% correct"),
            alt.Tooltip("spread:Q", format=".1f", title="± points"),
            alt.Tooltip("n:Q", format=",", title="n, items"),
        ],
    )
    squares = base.mark_rect().encode(
        color=alt.Color("accuracy:Q", scale=alt.Scale(scheme=SCHEME, domain=[0, 100]), legend=None)
    )
    numbers = base.mark_text(fontSize=12).encode(
        text=alt.Text("accuracy:Q", format=".0f"),
        color=alt.condition("datum.accuracy > 52", alt.value("black"), alt.value("white")),
    )
    return (squares + numbers).properties(height=alt.Step(26))


def pareto(points: pd.DataFrame, cost: str, unit: str, *, log: bool) -> alt.LayerChart:
    """Accuracy against ``cost`` (a column), the Pareto front as a line, points named.

    ``points`` has method, family, accuracy and low, high (percent), and ``front`` (bool).
    """
    scale, axis = _amounts(points[cost], log)
    base = alt.Chart(points).encode(
        x=alt.X(f"{cost}:Q", scale=scale, title=unit, axis=axis),
        y=alt.Y("accuracy:Q", title="% correct", scale=alt.Scale(zero=False, padding=18)),
    )
    marks = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("family:N", title=None, legend=alt.Legend(orient="bottom", columns=2)),
        shape=alt.Shape("family:N", title=None),
        tooltip=[
            "method:N",
            alt.Tooltip("accuracy:Q", format=".1f", title="% correct"),
            alt.Tooltip("error:Q", format=".1f", title="± points"),
            alt.Tooltip(f"{cost}:Q", format=",.4~s", title=unit),
        ],
    )
    errors = base.mark_rule(opacity=0.5).encode(y="low:Q", y2="high:Q")
    front = (
        base.transform_filter("datum.front")
        .mark_line(interpolate="step-after", strokeDash=[4, 3], color="#8C8C8C")
        .encode(order=alt.Order(f"{cost}:Q"))
    )
    names = base.mark_text(align="left", dx=9, dy=-8, fontSize=12, color=_TEXT).encode(
        text="method:N"
    )
    return (front + errors + marks + names).properties(height=420)


def _amounts(values: pd.Series, log: bool) -> tuple[alt.Scale, alt.Axis]:
    """Scale and axis; where it is logarithmic, it goes on to 0 below the least amount."""
    positive = values[values > 0]
    if not log or positive.empty:
        return alt.Scale(zero=True, nice=True), alt.Axis(labelExpr=_AMOUNT, tickCount=6)
    low, high = math.floor(math.log10(positive.min())), math.ceil(math.log10(positive.max()))
    ticks = [10.0**power * factor for power in range(low, high + 1) for factor in (1, 2, 5)]
    ticks = [tick for tick in ticks if positive.min() / 2 <= tick <= positive.max() * 2]
    scale = alt.Scale(type="symlog", constant=float(positive.min()) / 2, zero=True, padding=20)
    return scale, alt.Axis(values=[0.0, *ticks], labelExpr=_AMOUNT)


def differences(cells: pd.DataFrame, a: str, b: str) -> alt.LayerChart:
    """Wins and losses by language: ``cells`` is :func:`harness.compare.cells`, in points."""
    long = cells.groupby("language", sort=False)[["only_a", "only_b"]].sum().reset_index()
    long["only_b"] = -long["only_b"]
    long = long.melt("language", var_name="who", value_name="items")
    long["who"] = long["who"].map({"only_a": f"only {a} right", "only_b": f"only {b} right"})
    long["count"] = long["items"].abs()
    bound = int(long["count"].max() or 1)
    names = [f"only {b} right", f"only {a} right"]
    base = alt.Chart(long).encode(
        y=alt.Y("language:N", sort=list(cells["language"].unique()), title=None),
        x=alt.X(
            "items:Q",
            title="answers that one alone had right",
            scale=alt.Scale(domain=[-bound, bound]),
            axis=alt.Axis(tickMinStep=1, labelExpr="abs(datum.value)"),
        ),
    )
    bars = base.mark_bar().encode(
        color=alt.Color(
            "who:N", title=None, scale=alt.Scale(domain=names, range=[OKABE_ITO[1], OKABE_ITO[0]]),
            legend=alt.Legend(orient="bottom", labelLimit=260),
        ),
        tooltip=["language:N", "who:N", alt.Tooltip("count:Q", title="answers")],
    )  # fmt: skip
    zero = alt.Chart(pd.DataFrame({"items": [0]})).mark_rule(color="#8C8C8C").encode(x="items:Q")
    return (bars + zero).properties(height=alt.Step(30))


def layers(tensors: pd.DataFrame, column: str, title: str, *, signed: bool = False) -> alt.Chart:
    """Layer × module, coloured by ``column``; a dot marks selected tensors where it is signed."""
    order = list(dict.fromkeys(tensors["layer"]))
    bound = float(tensors[column].abs().max() or 1)
    scale = (
        alt.Scale(scheme="blueorange", domain=[-bound, bound])
        if signed
        else alt.Scale(scheme=SCHEME, domain=[0, bound])
    )
    base = alt.Chart(tensors).encode(
        x=alt.X("layer:N", sort=order, title="layer", axis=alt.Axis(**_CENTRED)),
        y=alt.Y("module:N", sort=list(dict.fromkeys(tensors["module"])), title=None,
                axis=alt.Axis(labelLimit=220, **_CENTRED)),
        tooltip=[
            "layer:N", "module:N",
            alt.Tooltip("parameters:Q", format=","), alt.Tooltip("key_neurons:Q", format=","),
            alt.Tooltip("share:Q", format=".2f", title="% key neurons"),
            alt.Tooltip("similarity:Q", format="+.4f"), "selected:N",
        ],
    )  # fmt: skip
    squares = base.mark_rect().encode(
        color=alt.Color(
            f"{column}:Q", scale=scale, title=title,
            legend=alt.Legend(orient="bottom", gradientLength=180, format=".2~f", tickCount=3),
        )
    )  # fmt: skip
    if signed:
        dots = base.transform_filter("datum.selected").mark_point(
            filled=True, size=36, color="black", stroke="white", strokeWidth=1, opacity=1
        )
        return (squares + dots).properties(height=alt.Step(22))
    return squares.properties(height=alt.Step(22))


def curves(trials: pd.DataFrame) -> alt.LayerChart:
    """The best score on dev so far, by trial; ``trials`` has method, number, score and best (%)."""
    base = alt.Chart(trials).encode(
        x=alt.X("number:Q", title="trial", axis=alt.Axis(tickMinStep=1, format="d")),
        color=alt.Color("method:N", title=None, legend=alt.Legend(orient="bottom", columns=4)),
    )
    best = base.mark_line(interpolate="step-after").encode(
        y=alt.Y("best:Q", title="% correct on dev", scale=alt.Scale(zero=False)),
        detail="sweep:N",
    )
    points = base.mark_point(filled=True, size=40).encode(
        y="score:Q",
        shape=alt.Shape("method:N", title=None),
        tooltip=[
            "method:N", "number:Q", alt.Tooltip("score:Q", format=".1f"), "parameters:N",
            alt.Tooltip("n:Q", title="n, items"), alt.Tooltip("error:Q", format=".1f", title="±"),
        ],
    )  # fmt: skip
    return (best + points).properties(height=300)
