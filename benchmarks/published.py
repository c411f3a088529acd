"""The schema of ``published.yaml``, the registry of published figures."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, model_validator


class Figure(BaseModel):
    """One published figure, in points (0-100), and where it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    pair: str
    what: Literal["teacher", "control", "method"]
    method: str | None = None
    metric: Literal["box AP"]
    value: float
    baseline: float | None = Field(default=None, description="the control that the same source gives")
    teacher: float | None = Field(default=None, description="the teacher that the same source gives")
    source: str = Field(min_length=1)
    read: Literal["verbatim", "second-hand"]
    disagrees_with: list[str] = Field(default_factory=list)
    note: str | None = None


class Registry(RootModel[list[Figure]]):
    """All figures."""

    @model_validator(mode="after")
    def _ids(self) -> "Registry":
        ids = [figure.id for figure in self.root]
        if twice := sorted({name for name in ids if ids.count(name) > 1}):
            raise ValueError(f"ids given twice: {', '.join(twice)}")
        if unknown := sorted({name for figure in self.root for name in figure.disagrees_with} - set(ids)):
            raise ValueError(f"disagrees_with names unknown ids: {', '.join(unknown)}")
        return self
