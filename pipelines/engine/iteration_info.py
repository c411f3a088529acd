"""MMEngine's hook for a run's state, without its wait for the GPU at every loss. Every config names it, an evaluation's too."""

from typing import Any

from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class IterationInfoHook(RuntimeInfoHook):  # type: ignore[misc]
    """MMEngine's hook without its history of every loss, for which it would wait for the GPU at each of them."""

    def after_train_iter(self, *_args: Any, **_kwargs: Any) -> None:
        """Keep nothing: the recorder does."""
