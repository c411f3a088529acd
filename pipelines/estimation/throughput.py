"""Throughput of runs: as measured, or else by one rule.

Measured are finished cells, the committed leaderboard, and ``benchmarks/throughput.json``.
The rule for the rest: **a training step costs three forward passes of the trained model and one of the frozen one**.
The student's backward pass is counted as two forward passes; the method's own loss, loading of data and
communication are not counted.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.throughput import Complexity, PairSize, Size, Throughput
from benchmarks.tier import Tier
from pipelines import layout
from pipelines.recipes import load_parts

# 53 images/s on 8 V100: MMDetection's Mask R-CNN ResNet-50 in Detectron2's comparison of training speeds
# (facebookresearch/detectron2, docs/notes/benchmarks.md).  Times 3 forward passes of 262 GMAC at 800x1344: 10.4.
DEFAULT_TFLOPS = 10.0
TFLOPS_REASON = "what MMDetection's Mask R-CNN R-50 reached on a V100; later cards do more"
FORWARDS_OF_A_STEP = 3


@dataclass(frozen=True)
class Speed:
    """Images per second on one GPU or core.

    Args:
        source: device of a measurement; addition to the word of an estimate.
        whole: validation during training is within the measured time.
    """

    images_per_s: float
    measured: bool
    source: str
    whole: bool = False


def _is_alone(method: str) -> bool:
    """Return True for the baseline and its variants, which run no teacher."""
    return load_parts(method)[0].code == "none"


@dataclass
class Speeds:
    """Speeds at a tier: measured by (pair, method), or from models' sizes and a device's assumed TFLOP/s."""

    complexity: Complexity | None
    tflops: float
    measured: dict[tuple[str, str], Speed] = field(default_factory=dict)

    def student(self, pair: str, method: str) -> Speed | None:
        """Speed of a student's run; None where it is unknown."""
        size = self._size(pair)
        gmac = None
        if size:
            gmac = FORWARDS_OF_A_STEP * size.student.forward_gmac + (0 if _is_alone(method) else size.teacher.forward_gmac)
        return self.measured.get((pair, method)) or self._by_size(gmac) or self._like(pair)

    def backbone(self, name: str) -> Speed | None:
        """Speed of pre-training a backbone; None where it has not been measured."""
        return self.measured.get((name, "backbone"))

    def teacher(self, pair: str) -> Speed | None:
        """Speed of the teacher's own run; None where it is unknown."""
        size = self._size(pair)
        gmac = FORWARDS_OF_A_STEP * size.teacher.forward_gmac if size else None
        return self.measured.get((pair, "teacher")) or self._by_size(gmac)

    def auxiliary(self, pair: str, method: str) -> Speed | None:
        """Speed of training an auxiliary module on the frozen teacher: at least that of the teacher's own run."""
        known = self.measured.get((pair, f"{method} prior"))
        speed = known or self.teacher(pair)
        return speed if speed is None or known else Speed(speed.images_per_s, measured=False, source="")

    def forward(self, pair: str, side: str) -> Speed | None:
        """Speed of prediction; None where it is unknown."""
        size = self._size(pair)
        if size is not None:
            model: Size = getattr(size, side)
            return self._by_size(model.forward_gmac * size.test_share)
        trained = self.teacher(pair) if side == "teacher" else self.student(pair, "none")
        return trained and Speed(trained.images_per_s * FORWARDS_OF_A_STEP, measured=False, source="")

    def _size(self, pair: str) -> PairSize | None:
        return self.complexity.pairs.get(pair) if self.complexity else None

    def _by_size(self, gmac: float | None) -> Speed | None:
        if gmac is None:
            return None
        return Speed(self.tflops * 1000 / (2 * gmac), measured=False, source="")

    def _like(self, pair: str) -> Speed | None:
        """Speed by the mean time per image of the pair's measured cells, or else of the tier's."""
        known = {key: speed.images_per_s for key, speed in self.measured.items() if key[1] != "teacher" and " " not in key[1]}
        same = [value for key, value in known.items() if key[0] == pair]
        values, of = (same, "pair's") if same else (list(known.values()), "tier's")
        if not values:
            return None
        mean = len(values) / sum(1 / value for value in values)
        return Speed(mean, measured=False, source=f" ({of} mean)")


def known_speeds(
    tier_name: str, tier: Tier, *, device: str, tflops: float, throughput: Throughput, complexity: Complexity
) -> Speeds:
    """Collect the speeds of a tier; a whole finished run takes precedence over timed steps.

    Args:
        tier_name: of ``tier``.
        tier: decides whether published models' sizes apply.
        device: part of a device's name; what was measured on others is not used.
        tflops: assumed speed of a device, 10^12 operations per second.
        throughput: measured speeds.
        complexity: published models' sizes.
    """
    # The sizes are those of the published models at their published input size.
    found = Speeds(complexity if tier.model is None else None, tflops)
    for key, record in throughput.newest(tier_name, device).items():
        found.measured[key] = Speed(record.images_per_s / record.gpus, measured=True, source=record.device)
    origins = {"leaderboard": _leaderboard(tier_name, device), "runs/": _runs(layout.runs(tier_name), device)}
    for source, finished in origins.items():
        found.measured |= {key: _mean(costs, source) for key, costs in finished.items() if costs}
    return found


def _mean(costs: list[dict[str, Any]], source: str) -> Speed:
    """Speed of whole runs, validation included."""
    rate = sum(cost["num_images"] for cost in costs) / sum(cost["wall_s"] for cost in costs)
    return Speed(rate, measured=True, source=source, whole=True)


Costs = dict[tuple[str, str], list[dict[str, Any]]]


def _uninterrupted(costs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the costs whose wall time is of the whole run."""
    return [cost for cost in costs if not cost["resumed_after_iteration"]]


def _leaderboard(tier_name: str, device: str) -> Costs:
    """Costs of the committed results of this tier and device, by pair and method."""
    path = layout.report(tier_name) / "leaderboard.json"
    board = json.loads(path.read_text()) if path.is_file() else {}
    machine = str((board.get("environment") or {}).get("device"))
    found: Costs = {}
    if board.get("tier") != tier_name or device.lower() not in machine.lower():
        return found
    for backbone in board.get("backbones", []):
        found[backbone["name"], "backbone"] = _uninterrupted([backbone["cost"]])
    for table in board["tables"]:
        for row in table["rows"]:
            costs = _uninterrupted([seed["cost"] for seed in row["seeds"] if seed["cost"]])
            # A tuned row trains as fast as the method's own.
            found.setdefault((table["pair"], row["method"]), []).extend(costs)
        if table["teacher"]:
            found[table["pair"], "teacher"] = _uninterrupted([table["teacher"]["cost"]])
    return found


def _runs(folder: Path, device: str) -> Costs:
    """Costs of the finished runs of this checkout, by pair and method."""
    names = {"pretrain": "backbone", "teacher": "teacher", "masks": "{} prior", "distill": "{}"}
    found: Costs = {}
    for path in sorted(path for depth in ("*/*", "*/*/*", "*/*/tuned/*") for path in folder.glob(f"{depth}/{layout.RUN}")):
        run = json.loads(path.read_text())
        if run["status"] == "done" and device.lower() in str(run["environment"]["device"]).lower():
            key = run["pair"], names[run["stage"]].format(run["method"])
            found.setdefault(key, []).extend(_uninterrupted([run["cost"]]))
    return found
