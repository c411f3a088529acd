"""Errors of readers and transforms, with the image that they happened on."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from pipelines.errors import place


class _Named:
    """A data set's pipeline whose errors carry the image's file.

    Args:
        pipeline: MMEngine's ``Compose``.
    """

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def __call__(self, data: dict[str, Any]) -> Any:
        try:
            return self.pipeline(data)
        except Exception as error:
            place(error, str(data.get("img_path", "an image without a file")))
            raise

    def __getattr__(self, name: str) -> Any:
        if name == "pipeline":  # while it is unpickled in a worker
            raise AttributeError(name)
        return getattr(self.pipeline, name)


class NamedFilesHook(Hook):  # type: ignore[misc]
    """Puts :class:`_Named` around the pipelines of a run, before any worker is started."""

    def before_run(self, runner: Runner) -> None:
        """Wrap the pipelines of all loops that are built."""
        for loop in (runner._train_loop, runner._val_loop, runner._test_loop):  # noqa: SLF001 (the properties build them)
            if hasattr(loop, "dataloader"):
                name_files(loop.dataloader.dataset)

    before_val, before_test = before_run, before_run


def name_files(dataset: Any) -> None:
    """Wrap the pipelines of a data set and of those inside of it."""
    for inner in (getattr(dataset, "dataset", None), *(getattr(dataset, "datasets", None) or ())):
        if inner is not None:
            name_files(inner)
    pipeline = getattr(dataset, "pipeline", None)
    if pipeline is not None and not isinstance(pipeline, _Named):
        dataset.pipeline = _Named(pipeline)
