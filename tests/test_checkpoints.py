"""Checkpoints under work/: none with other tensors is believed, none is run, and a run goes on from an older one."""

import os
import pickle
import random
import re
import shutil
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from benchmarks.whole_file import replacing, write_whole
from pipelines.engine.checkpoints import CheckedRunner, DamagedError, best_checkpoint, newest_checkpoint, read_checkpoint

EPOCHS = 3


class Line(BaseModel):
    """A straight line, and buffers that make its checkpoint some kilobytes long."""

    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.register_buffer("ballast", torch.arange(4096.0))

    def forward(self, inputs, targets, mode="loss"):
        """Squared distance."""
        assert mode == "loss"
        return {"loss": (self.line(inputs) - targets).square().mean()}


class Curve(Hook):
    """Keeps what the project's recorder keeps: a point per epoch."""

    def after_train_epoch(self, runner):
        """Note the iteration."""
        runner.message_hub.update_info("curve", [{"iteration": runner.iter, "loss": 1.0}])


def train(folder, epochs=EPOCHS, **more):
    """Train; the runner."""
    if "Line" not in MODELS.module_dict:
        MODELS.register_module(module=Line)
    pairs = [(torch.tensor([x]), torch.tensor([2 * x])) for x in (0.5, 1.0, 1.5, 2.0)]
    config = Config({
        "model": {"type": "Line"}, "work_dir": str(folder), "randomness": {"seed": 3}, "log_level": "ERROR",
        "train_dataloader": {"dataset": pairs, "batch_size": 2, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": False}, "collate_fn": {"type": "default_collate"}},
        "train_cfg": {"by_epoch": True, "max_epochs": epochs},
        "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9}},
        "param_scheduler": [{"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "end": 4}],
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}, "logger": None},
        "custom_hooks": [{"type": Curve}], "experiment_name": f"{folder.name}-{random.random()}", **more,  # noqa: S311
    })  # fmt: skip
    runner = CheckedRunner.from_cfg(config)
    runner.train()
    return runner


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's folder with three checkpoints."""
    folder = tmp_path_factory.mktemp("made") / "run"
    train(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy of it."""
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def tensors(content, at=""):
    """All tensors of a checkpoint, by their place."""
    if isinstance(content, torch.Tensor):
        return {at: content}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list | tuple) else ()
    return {key: value for name, inner in items for key, value in tensors(inner, f"{at}.{name}").items()}


def places(size):
    """Thirty-two byte positions over the whole file."""
    rng = random.Random(11)  # noqa: S311
    return [rng.randrange(size * part // 32, size * (part + 1) // 32) for part in range(32)]


@pytest.mark.parametrize("damage", ["bit", "block"])
def test_no_damaged_checkpoint_is_believed_with_other_tensors(folder, damage):
    """A flipped bit or a zeroed block at 32 places: read with the very same tensors, or refused."""
    path = folder / "epoch_3.pth"
    whole, content = path.read_bytes(), tensors(read_checkpoint(path))
    refused = 0
    for number, place in enumerate(places(len(whole))):
        bad = bytearray(whole)
        if damage == "bit":
            bad[place] ^= 1 << number % 8
        else:
            bad[place : place + 512] = bytes(len(bad[place : place + 512]))
        path.write_bytes(bad)
        try:
            found = tensors(read_checkpoint(path))
        except DamagedError:
            refused += 1
            continue
        assert found.keys() == content.keys(), place
        assert all(torch.equal(found[key], content[key]) for key in content), place

    assert refused >= 16


@pytest.mark.parametrize("cut", [0, 100, 0.6])
def test_a_run_goes_on_from_an_older_checkpoint(folder, capsys, cut):
    """One line for the damaged one, which is kept under another name; the result is that of an undisturbed run."""
    path = folder / "epoch_3.pth"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut if cut >= 1 else cut * len(whole))])
    older = newest_checkpoint(folder)
    (line,) = capsys.readouterr().out.splitlines()
    resumed = train(folder, epochs=5, resume=True, load_from=str(older))
    undisturbed = train(folder.with_name("undisturbed"), epochs=5)

    assert older == folder / "epoch_2.pth"
    assert re.fullmatch(r"\S*run/epoch_3\.pth is not used: .*; it is kept as epoch_3\.pth\.damaged", line), line
    assert (folder / "epoch_3.pth.damaged").is_file()
    assert torch.equal(resumed.model.line.weight, undisturbed.model.line.weight)


def test_without_a_good_one_a_run_begins_anew(folder, capsys):
    """All are set aside."""
    for path in folder.glob("epoch_*.pth"):
        path.write_bytes(path.read_bytes()[:-200])

    assert newest_checkpoint(folder) is None
    assert "begins anew" in capsys.readouterr().out
    assert not list(folder.glob("*.pth"))


class Planted:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        """Call it."""
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["archive", "pickle", "in the hub", "config"])
def test_nothing_in_a_checkpoint_is_run(folder, tmp_path, form):
    """Neither a pickled call nor MMEngine's text of a config, which is Python."""
    path, trap = folder / "epoch_3.pth", tmp_path / "trap"
    content = read_checkpoint(path)
    if form == "pickle":
        path.write_bytes(pickle.dumps({**content, "meta": Planted(trap)}))
    elif form == "config":
        content["meta"]["config"] = f"from pathlib import Path\nPath({str(trap)!r}).touch()\n"
        torch.save(content, path)
    else:
        target = content if form == "archive" else content["message_hub"]["runtime_info"]
        target["planted"] = Planted(trap)
        torch.save(content, path)
    found = newest_checkpoint(folder)
    train(folder, epochs=4, resume=True, load_from=str(found))

    assert not trap.exists()
    assert found == folder / ("epoch_3.pth" if form == "config" else "epoch_2.pth")


def test_the_best_checkpoint_is_beside_the_others(folder, tmp_path):
    """Of a checkout that was copied, too: nothing of the original's is read or removed."""
    for number in (2, 3):
        content = read_checkpoint(folder / f"epoch_{number}.pth")
        content["message_hub"]["runtime_info"]["best_ckpt"] = str(folder / "best_mIoU_epoch_1.pth")
        content["message_hub"]["resumed_keys"]["best_ckpt"] = True
        torch.save(content, folder / f"epoch_{number}.pth")
    best = {key: value for key, value in read_checkpoint(folder / "epoch_1.pth").items() if key != "optimizer"}  # as MMEngine's
    torch.save(best, folder / "best_mIoU_epoch_1.pth")
    copied = tmp_path / "copied"
    shutil.copytree(folder, copied)
    runner = train(copied, epochs=4, resume=True, load_from=str(newest_checkpoint(copied)))

    assert best_checkpoint(runner) == copied / "best_mIoU_epoch_1.pth"
    (copied / "best_mIoU_epoch_1.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"best_mIoU_epoch_1\.pth.*damaged or lost.*begins anew"):
        best_checkpoint(runner)
    assert newest_checkpoint(copied) is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """An exception in between leaves the old one and nothing of the new one."""
    path = tmp_path / "deep" / "one.json"
    write_whole(path, "first", is_synced=True)

    def write():
        with replacing(path) as partial:
            partial.write_text("sec")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()

    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["one.json"]
