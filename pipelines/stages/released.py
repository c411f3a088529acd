"""Stage ``released``: a student that its authors released, evaluated, and the log that they released with it."""

import argparse

from pipelines import errors, layout
from pipelines.released.student import evaluate_student
from pipelines.resolved import confirm


def main() -> None:
    """Evaluate the student and write its record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tier", required=True)
    parser.add_argument("--student", required=True, help="name in benchmarks/artefacts.yaml")
    args = parser.parse_args()
    confirm(layout.RELEASED, args.student)
    evaluate_student(args.tier, args.student)


if __name__ == "__main__":
    errors.run(main)
