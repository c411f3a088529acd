"""State dicts of older MMLab versions, brought into the layout of today's modules.

What the installed packages convert themselves while they load: FCOS's ``fcos_cls`` to ``conv_cls`` (mmdet's
``AnchorFreeHead``), a proposal network loaded as a detector and back (``SingleStageDetector``, ``TwoStageDetector``).
MMSegmentation's heads and backbones have kept their keys.
"""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

State = dict[str, Tensor]

# Keys of old layouts that today's modules no longer find: torch hands a module only the keys under its own name,
# so mmcv's deformable convolution does not see its old offsets, which stood beside it.
_RENAMED = ((re.compile(r"\b(conv\d)_offset\."), r"\1.conv_offset."),)
# May be missing: buffers that the module computes when it is built, or counts that evaluation does not read.
_COMPUTED = (".num_batches_tracked", ".integral.project", ".relative_position_index")
# May be too many: MMDetection 2's copy of the weights before averaging, the ImageNet classifier of a backbone's file.
UNWANTED = ("ema_", "fc.")
_MISFIT = re.compile(r"size mismatch for (\S+): .*?torch\.Size\(\[(.*?)\]\).*?torch\.Size\(\[(.*?)\]\)")
_TRAIN = "train or fetch the teacher of this pair and tier: dvc repro"
# Of the installed heads: GFL, RetinaNet, ATSS, FCOS, RepPoints, SOLO; RoI heads, whose boxes and masks are by class; segmenters.
_CLASSIFIER = re.compile(r"(_cls|conv_cls|cls_out|fc_cls|fc_reg|conv_logits|conv_seg)\b")
_SHOWN = 3  # keys of each kind that an error names


def with_versions(state: State, versions: dict[str, Any] | None) -> State:
    """Give a state dict the module versions by which ``load_state_dict`` recognises old layouts."""
    if versions is not None:
        state._metadata = versions  # type: ignore[attr-defined]  # noqa: SLF001 (torch's own place for them)
    return state


def stripped(state: State, prefix: str) -> State:
    """Return keys and versions that begin with the prefix without it; the other keys are excluded."""

    def strip(key: str) -> str:
        return f"{key}.".removeprefix(prefix).removesuffix(".")

    versions = getattr(state, "_metadata", None)
    if versions is not None:
        versions = OrderedDict((strip(key), value) for key, value in versions.items() if f"{key}.".startswith(prefix))
    return with_versions(OrderedDict((strip(key), value) for key, value in state.items() if key.startswith(prefix)), versions)


def in_todays_names(state: State, model: nn.Module) -> State:
    """Undo the renamings that modules do not do themselves while they load."""
    own = model.state_dict().keys()
    renamed = OrderedDict()
    for key, value in state.items():
        name = key
        for pattern, replacement in _RENAMED:
            name = pattern.sub(replacement, name)
        renamed[name if name in own else key] = value
    return with_versions(renamed, getattr(state, "_metadata", None))


def load_whole(model: nn.Module, state: State, source: str | Path, remedy: str = _TRAIN) -> None:
    """Load a state dict, of an old layout or today's, and make sure that every tensor found its place.

    Modules that changed their keys convert them while they load, so what is missing is known only afterwards:
    after an error the model is loaded in part.

    Args:
        model: what is loaded, in place.
        state: as :func:`read_weights` returns it.
        source: the file, for the error.
        remedy: what to do, for the error.

    Raises:
        ValueError: tensors are missing, left over or of another shape.
    """
    missing: list[str] = []
    left_over: list[str] = []
    misfits: list[tuple[str, str, str]] = []

    def note(_module: nn.Module, keys: Any) -> None:
        missing.extend(key for key in keys.missing_keys if not key.endswith(_COMPUTED))
        left_over.extend(key for key in keys.unexpected_keys if not key.startswith(UNWANTED))

    handle = model.register_load_state_dict_post_hook(note)  # type: ignore[no-untyped-call]
    try:
        model.load_state_dict(in_todays_names(state, model), strict=False)
    except RuntimeError as error:  # strict or not, torch refuses other shapes
        misfits = _MISFIT.findall(str(error))
        if not misfits:
            raise
    finally:
        handle.remove()
    if wrong := sorted([*missing, *left_over, *(key for key, _, _ in misfits)]):
        shapes = [f"{key} ({there}) for ({here})" for key, there, here in misfits]
        kinds = {"the file lacks": missing, "it has": left_over, "of another shape": shapes}
        named = "; ".join(f"{kind} {_some(keys)}" for kind, keys in kinds.items() if keys)
        if len(wrong) == len(misfits) and (counts := _class_counts(misfits)):
            raise ValueError(
                f"weights {source} are of a {type(model).__name__} with another number of classes: {counts}; train its classifier on "
                f"these classes, or {remedy}"
            )
        raise ValueError(
            f"weights {source} are of another architecture than {type(model).__name__} here: {len(wrong)} tensors differ, "
            f"the first is {wrong[0]} ({named}); {remedy}"
        )


def _class_counts(misfits: list[tuple[str, str, str]]) -> str:
    """Return the outputs of classifiers that differ in nothing but their number; empty where anything else differs."""
    found = []
    for key, there, here in misfits:
        (outputs, *rest), (wanted, *own) = there.split(", "), here.split(", ")
        if rest != own or not _CLASSIFIER.search(key):
            return ""
        if key.endswith(".weight"):
            found.append(f"{key} has {outputs} outputs, here {wanted}")
    return ", ".join(found[:_SHOWN])


def _some(keys: list[str]) -> str:
    rest = len(keys) - _SHOWN
    return ", ".join(keys[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
