"""README, CONTRIBUTING and the pages of docs/: links, navigation, and names of commands, modules, paths and keys."""

import re
import subprocess
import sys
from functools import cache

import pytest
import yaml

from benchmarks.own import OwnData
from pipelines.runner.slurm import Settings
from pipelines.tuning.params import TuningParams
from tests.conftest import ROOT, committed, git

README_WORDS = 1100  # as `wc -w` counts
_FENCE = re.compile(r"^```.*?^```[^\S\n]*$", re.MULTILINE | re.DOTALL)
_TITLED = re.compile(r'^```\w+ title="(\S+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FOLDERS = ("benchmarks", "methods", "pipelines", "reports", "tests", "tools", "docs")


@cache
def files():
    """Every path that git has, folders included; of a tree that is no checkout, every path below the root."""
    if (ROOT / ".git").exists():
        found = {ROOT / name for name in git("ls-files").splitlines()}
    else:
        found = {path for path in ROOT.rglob("*") if path.is_file()}
    return found | {folder for path in found for folder in path.parents}


def documents():
    """Names of all Markdown files of the documentation."""
    pages = (path for path in files() if path.parent == ROOT / "docs" and path.suffix == ".md")
    return ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in pages)]


def prose(text):
    """A document without its fenced blocks."""
    return _FENCE.sub("", text)


def anchors(text):
    """Anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def example(page, title):
    """A titled YAML block of a page, read."""
    (block,) = [block for name, block in _TITLED.findall(committed(page)) if name == title]
    return yaml.safe_load(block)


@pytest.mark.parametrize("name", documents())
def test_links_resolve(name):
    """Relative links name files that git has, anchors headings; pages of docs/ link within docs/, for the site has no more."""
    text, broken = committed(name), []
    for link in _LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent.joinpath(target).resolve() if target else ROOT / name
        outside = name.startswith("docs/") and ROOT / "docs" not in path.parents
        missing = path not in files() or (anchor and anchor not in anchors(committed(str(path.relative_to(ROOT)))))
        broken += [link] if outside or missing else []

    assert broken == []


def test_readme_is_short():
    """One screen, and the rest in docs/."""
    assert len(committed("README.md").split()) <= README_WORDS


def test_every_page_is_in_the_navigation():
    """And nothing else, each once."""
    nav = committed("mkdocs.yml").partition("\nnav:\n")[2].partition("\nmarkdown_extensions:")[0]

    assert sorted(f"docs/{page}" for page in re.findall(r"[\w-]+\.md", nav)) == documents()[2:]


def test_index_lists_every_page():
    """The contents on the first page."""
    listed = set(_LINK.findall(committed("docs/index.md")))

    assert {f"docs/{page}" for page in listed} == {*documents()[2:]} - {"docs/index.md"}


@pytest.mark.parametrize(("page", "folder"), [("docs/methods.md", "methods"), ("docs/pairs.md", "benchmarks/pairs")])
def test_every_choice_is_described(page, folder):
    """Each recipe and each pair has its name on its page."""
    names = {path.stem for path in files() if path.parent == ROOT / folder and path.suffix == ".yaml"}
    missing = sorted(name for name in names if f"`{name}`" not in committed(page))

    assert missing == []


@pytest.mark.parametrize("name", documents())
def test_named_paths_and_modules_exist(name):
    """Paths in backticks, and modules after ``python -m``; those that a worked example creates excepted."""
    text = committed(name)
    created = {title for title, _ in _TITLED.findall(text)}
    paths = re.findall(rf"`((?:{'|'.join(_FOLDERS)})/[\w./-]*)`", prose(text))
    modules = [module.replace(".", "/") for module in re.findall(rf"python -m ((?:{'|'.join(_FOLDERS)})\.[\w.]*\w)", text)]
    wanted = {path: ROOT / path for path in paths} | {f"{module}.py": ROOT / f"{module}.py" for module in modules}
    missing = sorted(path for path, file in wanted.items() if path not in created and file not in files())

    assert missing == []


def test_named_targets_exist():
    """``make TARGET`` in the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", committed("Makefile"), re.MULTILINE))
    named = {target for name in documents() for target in re.findall(r"(?:`|^)make ([a-z][\w-]*)", committed(name), re.MULTILINE)}

    assert sorted(named - targets) == []


def test_named_verbs_exist():
    """``./kd VERB`` in the documents is a verb of the command line."""
    named = {verb for name in documents() for verb in re.findall(r"\./kd ([a-z]+)", committed(name))}
    done = subprocess.run([sys.executable, "-m", "pipelines", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    verbs = set(re.findall(r"^\W*([a-z]+)\s{2,}\S", done.stdout, re.MULTILINE))

    assert sorted(named - verbs) == []


def test_examples_of_settings_are_valid():
    """The YAML blocks on own data, tuning and Slurm are what their schemas accept."""
    own = example("docs/own-data.md", "params.yaml")
    tuning = example("docs/tuning.md", "params.yaml")

    assert own["tier"] == "own"
    OwnData.model_validate(own["own"])
    TuningParams.model_validate(tuning["tuning"])
    Settings.model_validate(example("docs/clusters.md", "slurm.yaml"))
