"""Malformed files of settings by the rules of the tests, judged as stage check judges them: a Markdown table by rule.

python -m tools.settings_fuzz
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.yaml_fuzz import judge


def main() -> None:
    """Judge, print the table, and end with 1 where a file is judged wrongly."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts, faults = judge(Path(folder))
    print("| rule | files | refused | accepted rightly | wrong |\n|---|--:|--:|--:|--:|")
    for rule, count in counts.items():
        print(f"| {rule} | {count.files} | {count.refused} | {count.accepted} | {count.wrong} |")
    sums = [sum(getattr(count, name) for count in counts.values()) for name in ("files", "refused", "accepted", "wrong")]
    print(f"| all | {' | '.join(map(str, sums))} |")
    print(f"\n{sums[0]} files in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    print(*faults, sep="\n", file=sys.stderr)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
