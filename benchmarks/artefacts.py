"""The schema of ``artefacts.yaml``: what authors released beside the results that they report.

An artefact is a file that somebody else keeps: a student's weights, the log of its training, the tokens that were learned on a
teacher.  Most publishers state no digest; the one of the first download is then kept in ``artefacts.lock``, and a file with
another one is refused from there on.
"""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, RootModel, model_validator

from benchmarks.schema import Frozen, Id, Text

_BY_HAND = {"drive.google.com": "Google Drive", "pan.baidu.com": "Baidu"}

Container = Literal["plain", "mmrazor 0.1", "mmrazor 1.x", "MGD", "unknown"]
LogFormat = Literal["mmcv json", "mmengine json", "text", "unknown"]


class Artefact(Frozen):
    """A released file."""

    address: str = Field(pattern=r"^https://\S+$")
    file: str = Field(
        pattern=r"^[\w+-][\w.+-]*$",
        description="name in the folder of downloads; the publisher's own where its address has one, else ours",
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8,64}$",
        description="digest of the file or the leading digits that its name has; None: digest at first use",
    )
    code: Text | None = Field(default=None, description="that Baidu asks for before it gives the file away")

    @property
    def host(self) -> str | None:
        """The site that only a browser can download from; None where the file can be fetched."""
        return _BY_HAND.get(urlsplit(self.address).netloc)

    @model_validator(mode="after")
    def _has_a_code(self) -> "Artefact":
        if (self.host == "Baidu") != (self.code is not None):
            raise ValueError(f"{self.file}: a code belongs to every file on Baidu, and to no other")
        return self


class Weights(Artefact):
    """A student's weights."""

    container: Container = Field(
        description="layout of the file, as far as the code tells that wrote it; the loader finds out itself"
    )


class Log(Artefact):
    """Log of a training."""

    format: LogFormat


class ReleasedStudent(Frozen):
    """Artefacts of one trained student, and the reported results that are its own."""

    reported: list[Text] = Field(min_length=1, description="ids of the registry; the first is the one that is compared")
    weights: Weights | None = None
    log: Log | None = None
    config: Text | None = Field(default=None, description="repository, path and commit of the authors' config")
    licence: Text | None = Field(default=None, description="of the repository; None where it has no licence file")
    nothing: Text | None = Field(default=None, description="why there is neither weights nor log")
    note: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> "ReleasedStudent":
        if (self.weights is None and self.log is None) != (self.nothing is not None):
            raise ValueError(f"{self.reported[0]}: give weights or a log or, under nothing, why there is neither")
        return self


class ReleasedTokens(Artefact):
    """Weights of a method's auxiliary module that was trained on a pair's teacher."""

    method: Id
    pairs: list[Text] = Field(min_length=1, description="whose teacher they were learned on")
    licence: Text | None = None
    note: Text | None = None


class Artefacts(Frozen):
    """All that was released, by names of ours."""

    students: dict[Text, ReleasedStudent]
    tokens: dict[Text, ReleasedTokens]

    @model_validator(mode="after")
    def _files_differ(self) -> "Artefacts":
        given = [one for student in self.students.values() for one in (student.weights, student.log) if one is not None]
        by_file: dict[str, str] = {}
        for one in [*given, *self.tokens.values()]:
            if by_file.setdefault(one.file, one.address) != one.address:
                raise ValueError(f"two files are called {one.file}; give one of them another name")
        reported = [name for student in self.students.values() for name in student.reported]
        if twice := sorted({name for name in reported if reported.count(name) > 1}):
            raise ValueError(f"reported results of two students: {', '.join(twice)}")
        return self

    def of(self, reported: str) -> tuple[str, ReleasedStudent] | None:
        """Return the student, and its name, whose result the registry has under an id."""
        return next(((name, one) for name, one in self.students.items() if reported in one.reported), None)


class KnownDigests(RootModel[dict[str, "FirstUse"]]):
    """``artefacts.lock``: by address, the digest of a file at its first use."""


class FirstUse(Frozen):
    """A file as it was when it was used for the first time."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1, le=10**12)
    first_used: Text = Field(description="date")
