"""The reader of YAML files: the values that DVC reads, and one line for what is refused."""

import os
import time

import pytest
from dvc.utils.serialize import parse_yaml

from benchmarks.yaml_files import read_yaml
from tests.conftest import ROOT, git

FILES = [path for path in git("ls-files", "*.yaml", "*.lock").split() if not path.startswith(("requirements", ".github"))]


def same(one, other):
    """Whether two contents are equal in values, kinds and order of keys."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(same, one, other)) if isinstance(one, list) else one == other


@pytest.fixture
def written(tmp_path):
    """A function that reads a file of these bytes."""

    def read(content):
        path = tmp_path / "some.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_yaml(path)

    return read


@pytest.mark.parametrize("path", FILES)
def test_committed_files_are_read_as_dvc_reads_them(path):
    """Values, kinds, and order."""
    assert same(read_yaml(ROOT / path), parse_yaml((ROOT / path).read_text(), path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("+3", 3), ("010", 10), ("0o17", 15), ("0x1f", 31), ("1_000", 1000),
        ("1:30", "1:30"), ("yes", "yes"), ("on", "on"), ("True", True), ("~", None), ("'5'", "5"), ("1,5", "1,5"), ("1e", "1e"),
        ("|\n  two\n  lines", "two\nlines\n"), ("[]", []), ("{}", {}),
    ],
)  # fmt: skip
def test_a_value_of_yaml_1_2(written, text, value):
    """By hand, and as DVC has it."""
    content = f"key: {text}\n"

    assert same(written(content), {"key": value})
    assert same(parse_yaml(content, "some.yaml"), {"key": value})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: {c: 2, c: 3}\n", "line 2 (b): key 'c' is given twice; remove one"),
        ("a: &x [*x]\n", "line 1 (a.0): *x is a part of what it stands for"),
        ("a: *x\n", "line 1 (a): there is no &x above *x"),
        ("a:\n- b: !!python/name:os.system x\n", "line 2 (a.0.b): tags such as !!python/name:os.system are not read; remove it"),
        ("a: 1\n---\nb: 1\n", "line 2: a second document begins; a file has one"),
        ("%YAML 1.1\n---\na: 1\n", "directives such as %YAML are not read; remove it"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("1: 2\n", "line 1: key '1' is not read as text; put it in quotes"),
        ("? [1]\n: 2\n", "line 1: a key must be text, not a list, an alias or other keys"),
        ("<<: {a: 1}\n", "line 1: '<<' is not read here (merge keys are not)"),
        ("a: 2026-11-28\n", "line 1 (a): 2026-11-28 is read as a date; put it in quotes"),
        ("a: .nan\n", "line 1 (a): .nan is not a finite number"),
        ("a: 1e999\n", "line 1 (a): 1e999 is not a finite number"),
        ("a: 9223372036854775808\n", "line 1 (a): 9223372036854775808 is too large a number"),
        (f"a: {'9' * 5000}\n", "line 1 (a): a number of 5000 digits is too long"),
        ("a: {b: 1\n", "is not YAML: line 2: "),
        ("a: 1\n\tb: 2\n", "is not YAML: line 2: "),
        ("\ta: 1\n", "indent with spaces, not tabs"),
        ("a: \x07\n", "has the character U+0007, which YAML does not allow; remove it"),
        ('a: "\\0"\n', "line 1 (a): '\\x00' has a control character; remove it"),
        ("a: ä".encode("latin-1"), "line 1: byte 0xe4 is not UTF-8"),
        ("a: 1".encode("utf-16"), "is encoded as UTF-16; save it as UTF-8"),
        ("a: 1".encode("utf-16-be"), "is encoded as UTF-16; save it as UTF-8"),
        ("a: 1".encode("utf-32"), "is encoded as UTF-32; save it as UTF-8"),
        (b"a: 1\n" + b"#" * 9 * 2**20, "has 9 MiB"),
    ],
)
def test_what_is_refused_is_one_line(written, content, said):
    """File, line, keys."""
    with pytest.raises(ValueError, match=r"some\.yaml: ") as caught:
        written(content)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_read(written):
    """As DVC reads them."""
    assert written("a: 1\r\nb: 2\r\n".encode("utf-8-sig")) == {"a": 1, "b": 2}


@pytest.mark.parametrize("content", ["[" * 500_000, "- " * 100_000, "a: " + "{b: " * 100_000, "? " * 100_000])
def test_nesting_ends_no_process(written, content):
    """Parsers that compose in C end the process here."""
    with pytest.raises(ValueError, match=r"nested more than 50 levels deep|a key must be text"):
        written(content)


def test_aliases_that_explode_are_counted(written):
    """Nine to the twelfth values in a kilobyte; a few thousand by aliases are fine."""
    lines = [f"x{number}: &x{number} [{', '.join([f'*x{number - 1}'] * 9)}]" for number in range(1, 12)]
    begun = time.monotonic()
    with pytest.raises(ValueError, match="make more than 500000 values"):
        written("x0: &x0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "\n".join(lines))
    assert time.monotonic() - begun < 5

    assert len(written("a: &a [1, 2]\nb: [*a, *a]\n")["b"]) == 2


def test_no_regular_file(tmp_path):
    """A folder, a pipe that nobody writes to, a file that is not there."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("", "is a folder"), ("pipe", "is no regular file"), ("gone", "cannot be read")):
        with pytest.raises(ValueError, match=said):
            read_yaml(tmp_path / name)
