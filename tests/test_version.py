"""The version: written in pyproject.toml, and the same wherever else it is stated."""

import re

import pytest
import yaml

from tests.conftest import committed


@pytest.fixture
def version():
    """The project's version."""
    return re.search(r'^version = "(.+)"$', committed("pyproject.toml"), re.MULTILINE)[1]


@pytest.fixture
def releases():
    """Version and date of each release in the changelog, in its order."""
    return re.findall(r"^## (\d\S*) - (\S+)$", committed("CHANGELOG.md"), re.MULTILINE)


def test_newest_release_is_the_version(version, releases):
    """The changelog's first numbered heading."""
    assert releases[0][0] == version


def test_every_heading_is_a_release_or_what_comes_next(releases):
    """A misspelt heading would hide a release from these tests; ``Unreleased`` comes first or not at all."""
    headings = re.findall(r"^## (.+)$", committed("CHANGELOG.md"), re.MULTILINE)

    assert [heading for heading in headings if heading != "Unreleased"] == [f"{number} - {date}" for number, date in releases]
    assert "Unreleased" not in headings[1:]


def test_releases_are_in_order(releases):
    """Newest first, by number and by date, none twice."""
    numbers = [tuple(map(int, number.split("."))) for number, _ in releases]
    dates = [date for _, date in releases]

    assert numbers == sorted(set(numbers), reverse=True)
    assert dates == sorted(dates, reverse=True)


def test_citation_is_of_the_newest_release(version, releases):
    """Version and date."""
    citation = yaml.safe_load(committed("CITATION.cff"))

    assert str(citation["version"]) == version
    assert str(citation["date-released"]) == releases[0][1]
