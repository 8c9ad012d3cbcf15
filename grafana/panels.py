"""The kinds of panels in our dashboards, built with Grafana's own schema.

This module owns the appearance: sizes, colours, legends, the data source. Each panel has a sentence that says what is
good and what is not.
"""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as words
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

SOURCE = models.DataSourceRef(type_val="prometheus", uid="prometheus")
WIDTH = 24
Panel = Builder[models.Panel]
Words = Mapping[str, tuple[str, str]]
Steps = Sequence[tuple[float | None, str]]
CALM: Steps = ((None, "green"),)
NONE_IS_GOOD: Steps = ((None, "green"), (1, "red"))


def query(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Make a query: one expression, and the legend of its series."""
    return prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").datasource(SOURCE)


def figure(
    title: str, about: str, expression: str, *, unit: str = "short", steps: Steps = CALM, width: int = 4,
    says: Words | None = None, legend: str = "",
) -> Panel:  # fmt: skip
    """Make a panel with one number, coloured by its meaning; ``says`` replaces numbers by words and colours."""
    panel = (
        stat.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(4).span(width)
        .with_target(query(expression, legend).instant()).thresholds(_thresholds(steps))
        .graph_mode(words.BigValueGraphMode.NONE).color_mode(words.BigValueColorMode.BACKGROUND)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )  # fmt: skip
    if says:
        panel.mappings([_words(says)])
    return panel


def lines(
    title: str, about: str, *queries: tuple[str, str], unit: str = "short", stacked: bool = False, width: int = 12
) -> Panel:
    """Make a panel with lines over time."""
    panel = (
        timeseries.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(8).span(width)
        .min(0).line_width(2).fill_opacity(60 if stacked else 8).show_points(words.VisibilityMode.NEVER)
        .tooltip(common.VizTooltipOptions().mode(words.TooltipDisplayMode.MULTI).sort(words.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions().display_mode(words.LegendDisplayMode.LIST)
            .placement(words.LegendPlacement.BOTTOM).show_legend(True)
        )
    )  # fmt: skip
    if stacked:
        panel.stacking(common.StackingConfig().mode(words.StackingMode.NORMAL))
    for letter, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(query(expression, legend).ref_id(letter))
    return panel


def states(title: str, about: str, expression: str, *, says: Words, legend: str, width: int = 12) -> Panel:
    """Make a panel with a band for each series, coloured by its state at each time."""
    return (
        statetimeline.Panel().title(title).description(about).datasource(SOURCE).height(8).span(width)
        .with_target(query(expression, legend)).mappings([_words(says)]).merge_values(True)
        .show_value(words.VisibilityMode.AUTO).row_height(0.8).thresholds(_thresholds(CALM))
        .legend(common.VizLegendOptions().show_legend(False).display_mode(words.LegendDisplayMode.HIDDEN)
                .placement(words.LegendPlacement.BOTTOM))
    )  # fmt: skip


def bars(title: str, about: str, expression: str, legend: str, *, unit: str = "short", width: int = 8) -> Panel:
    """Make a panel with one bar for each series, for the present value."""
    return (
        bargauge.Panel().title(title).description(about).datasource(SOURCE).unit(unit).height(8).span(width).min(0)
        .orientation(words.VizOrientation.HORIZONTAL).thresholds(_thresholds(((None, "blue"),)))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query(expression, legend).instant())
    )  # fmt: skip


def heatmap_of(title: str, about: str, histogram: str, *, width: int = 12) -> Panel:
    """Make a panel with the distribution of a histogram's values over time."""
    expression = f"sum by (le) (increase({histogram}_bucket{SELECTED}[$__rate_interval]))"
    return (
        heatmap.Panel().title(title).description(about).datasource(SOURCE).height(8).span(width)
        .with_target(query(expression, "{{le}}").format(PromQueryFormat.HEATMAP))
        .color(heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Turbo").steps(64))
        .y_axis(heatmap.YAxisConfig().unit("s")).cell_gap(1)
    )  # fmt: skip


def page(title: str, markdown: str) -> Panel:
    """Make a panel with a page of text."""
    return text.Panel().title(title).height(40).span(WIDTH).mode(TextMode.MARKDOWN).content(markdown)


SELECTED = '{instance=~"$instance"}'
"""Restricts a query to the instances that the viewer has selected."""


def _words(says: Words) -> models.ValueMap:
    options = {key: models.ValueMappingResult(text=text, color=color) for key, (text, color) in says.items()}
    return models.ValueMap(options=options)


def _thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    marks = [models.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(marks)
