"""Declared margins of data sets and metrics."""

from benchmarks.dataset import datasets
from reports.schemas.reported import Margin


def margins() -> dict[tuple[str, str], Margin]:
    """Return declared margins by the data set's title and the metric; ValueError where one is declared twice."""
    found = [
        Margin(dataset=record.title, metric=one.metric, margin=one.margin, planning_sd=one.planning_sd, why=one.why)
        for record in datasets().values()
        for one in record.margins
    ]
    by_key = {(margin.dataset, margin.metric): margin for margin in found}
    if len(by_key) < len(found):
        raise ValueError("benchmarks/datasets: a data set and metric have two margins; one margin each")
    return by_key
