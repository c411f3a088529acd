"""Workflows, issue forms and Dockerfiles: what can be checked without GitHub and Docker."""

import re

import pytest
import yaml

from tests.conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml")
CONTAINERS = sorted((ROOT / "docker").glob("*.Dockerfile"))
INPUTS = {"input", "textarea", "dropdown", "checkboxes"}  # beside markdown, which takes no answer


def texts(value):
    """All strings of a parsed file, without its comments."""
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in texts(item)] if isinstance(value, list) else [str(value)]


def made(text):
    """The targets of the ``make`` commands in a text, in their order."""
    return re.findall(r"(?:^|[;&|] *)make ([a-z]+)", text, re.MULTILINE)


@pytest.fixture
def targets():
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(params=WORKFLOWS, ids=lambda path: path.stem)
def workflow(request):
    """Path and content of a workflow."""
    return request.param, yaml.safe_load(request.param.read_text())


@pytest.fixture(params=FORMS, ids=lambda path: path.stem)
def form(request):
    """Content of an issue form."""
    return yaml.safe_load(request.param.read_text())


def test_there_are_some():
    """The files that the others of these tests are about."""
    assert [path.stem for path in WORKFLOWS] == ["ci", "monthly"]
    assert [path.stem for path in FORMS] == ["bug", "method", "pair", "reported_result", "result"]
    assert [path.stem for path in CONTAINERS] == ["cpu", "cuda"]


def test_workflow_is_whole(workflow):
    """It has triggers, few permissions, and jobs with a limit whose steps run or use something."""
    _, content = workflow

    assert content[True]  # YAML 1.1 reads the key `on` so
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        assert job["runs-on"]
        assert job["timeout-minutes"]
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_make_targets_exist(workflow, targets):
    """Those that a workflow runs, also by way of a matrix."""
    _, content = workflow
    used = [target for text in texts(content) for target in made(text)]

    assert "test" in used
    assert set(used) <= targets


def test_actions_are_pinned(workflow):
    """Each by the hash of a commit, with the release in a comment."""
    path, content = workflow
    lines = [line.strip() for line in path.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    steps = [step for job in content["jobs"].values() for step in job["steps"]]

    assert len(lines) == sum("uses" in step for step in steps)
    for line in lines:
        assert re.fullmatch(r"(- )?uses: [\w.-]+(/[\w.-]+)+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_an_action_has_one_pin():
    """Whichever workflow uses it."""
    pins = re.findall(r"uses: ([\w.-]+/[\w.-]+)\S*@(\S+  # \S+)", "\n".join(path.read_text() for path in WORKFLOWS))

    assert len(set(pins)) == len({action for action, _ in pins})


def test_ci_makes_what_the_local_check_makes():
    """The targets of ``.ci/run``, in its order, and Slurm's packages."""
    local = (ROOT / ".ci/run").read_text()
    content = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    runs = "\n".join(step.get("run", "") for step in content["jobs"]["test"]["steps"])
    packages = re.compile(r"--no-install-recommends ([a-z -]+)")

    assert [target for target in made(runs) if target != "install"] == made(local)
    assert packages.search(runs)[1].split() == packages.search(local)[1].split()


def test_newest_versions_replace_every_pin():
    """The monthly expression leaves no exact version among the requirements, and nothing else of the file changes."""
    content = yaml.safe_load((ROOT / ".github/workflows/monthly.yml").read_text())
    (command,) = [line for text in texts(content) for line in text.splitlines() if line.startswith("sed ")]
    pattern = re.search(r"s/(.+)/(.+)/g'", command)
    before = (ROOT / "pyproject.toml").read_text()
    after = re.sub(pattern[1], pattern[2], before)

    assert re.search(r'"[a-z-]+==', before)
    assert not re.search(r'"[a-z-]+==', after)
    assert after.replace(">=", "==") == before.replace(">=", "==")


def test_form_has_what_github_requires(form):
    """A name, a description, and fields of known kinds, with labels that differ."""
    assert {"name", "description", "body"} <= form.keys()
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    labels = [field["attributes"]["label"] for field in fields]

    assert fields
    assert {field["type"] for field in fields} <= INPUTS
    assert len(set(labels)) == len(labels)
    for field in fields:
        options = [str(option) for option in field["attributes"].get("options", [])]
        assert bool(options) == (field["type"] in {"dropdown", "checkboxes"})
        assert len(set(options)) == len(options)


def test_form_has_unique_ids(form):
    """One per field, of the characters that GitHub allows."""
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]*", field_id) for field_id in ids)


def test_form_names_differ():
    """GitHub shows them in one list."""
    names = [yaml.safe_load(path.read_text())["name"] for path in FORMS]

    assert len(set(names)) == len(names)


def test_pull_request_has_four_boxes():
    """Tests, documentation, changelog, results."""
    boxes = re.findall(r"^- \[ \] (\w+)", (ROOT / ".github/pull_request_template.md").read_text(), re.MULTILINE)

    assert boxes == ["Tests", "Documentation", "Changelog", "Results"]


@pytest.mark.parametrize("path", [*WORKFLOWS, *FORMS, *CONTAINERS], ids=lambda path: path.name)
def test_no_host_is_named(path):
    """Packages come from whatever index is configured, as with the lock file."""
    assert "://" not in path.read_text()


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.stem)
def test_container_makes_what_exists(path, targets):
    """Targets and copied files exist; nothing that git ignores gets in, and it does not run as root."""
    text = path.read_text()
    ignored = {line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()}
    kept_out = {line.removeprefix("**/").strip("/") for line in (ROOT / ".dockerignore").read_text().splitlines()}

    assert "install" in (used := made(text.replace("RUN ", "")) + re.findall(r'\["make", "(\w+)"\]', text))
    assert set(used) <= targets
    assert all(
        (ROOT / name).exists() for names in re.findall(r"^COPY \S+ (.+) \S+$", text, re.MULTILINE) for name in names.split()
    )
    assert ignored <= kept_out
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE)[-1] != "root"
