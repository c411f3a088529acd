"""Published data sets: what a complete copy holds, and where to get it.

Counts are those that the data sets' own pages and papers state.
COCO's publisher gives no digests; those below are what independent projects state for the same files.
PASCAL VOC's MD5 sums are those of torchvision's ``datasets/voc.py``.
Sizes in bytes are what the servers announce.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Archive:
    """A file that its publisher lets anybody download.

    Args:
        url: where it lies.
        size: of the archive, bytes.
        gives: folders or files under the data set's root that it fills.
        unpacked: about how many bytes are taken of it.
        sha256, md5: of the archive; at least one is known.
        wanted: beginning of the members' names that are unpacked; the rest is not needed.
    """

    url: str
    size: int
    gives: tuple[str, ...]
    unpacked: int
    sha256: str | None = None
    md5: str | None = None
    wanted: str = ""


@dataclass(frozen=True)
class Split:
    """Part of a published data set; paths are relative to its root.

    ``annotations`` is a COCO JSON file, VOC's list of image names, or the folder of Cityscapes' label maps.
    """

    images: str
    annotations: str
    num_images: int


@dataclass(frozen=True)
class Published:
    """A published data set.

    Args:
        variable: of the environment, names the root.
        layout: what the root holds, for messages.
        splits: by name.
        num_classes: how many there are; which is the framework's business.
        archives: what may be downloaded freely.
        account: how to get what may not.
        sha256: digests of annotation files, where they are documented.
    """

    variable: str
    layout: str
    splits: dict[str, Split]
    num_classes: int
    archives: tuple[Archive, ...] = ()
    account: str = ""
    sha256: dict[str, str] = field(default_factory=dict)

    def where(self, missing: Sequence[str]) -> str:
        """How to get the missing paths, in words."""
        if not self.archives:
            return self.account
        parts = [f"{archive.url} ({archive.size / 1e9:.2g} GB)" for archive in self.giving(missing)]
        return f"unpack {', '.join(parts)} there, or let prepare do it: add --download"

    def giving(self, missing: Sequence[str]) -> list[Archive]:
        """The archives that hold the missing paths."""
        return [archive for archive in self.archives if any(path.startswith(archive.gives) for path in missing)]


_COCO = "http://images.cocodataset.org"
_VOC = "http://host.robots.ox.ac.uk/pascal/VOC"

CATALOGUE = {
    "coco": Published(
        variable="KD_COCO",
        layout="train2017/, val2017/ and annotations/",
        splits={
            "train": Split("train2017", "annotations/instances_train2017.json", 118_287),
            "val": Split("val2017", "annotations/instances_val2017.json", 5_000),
        },
        num_classes=80,
        archives=(
            Archive(
                f"{_COCO}/zips/train2017.zip", 19_336_861_798, ("train2017",), 19_400_000_000,
                sha256="69a8bb58ea5f8f99d24875f21416de2e9ded3178e903f1f7603e283b9e06d929",
            ),
            Archive(
                f"{_COCO}/zips/val2017.zip", 815_585_330, ("val2017",), 820_000_000,
                sha256="4f7e2ccb2866ec5041993c9cf2a952bbed69647b115d0f74da7ce8f4bef82f05",
            ),
            Archive(
                f"{_COCO}/annotations/annotations_trainval2017.zip", 252_907_541, ("annotations/",), 500_000_000,
                sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
                wanted="annotations/instances_",
            ),
        ),
        sha256={
            "annotations/instances_train2017.json": "610fce4944abdeb15354cc765333805529359d12d88f2f711393ca586901d01d",
            "annotations/instances_val2017.json": "e8c7f7908f1d7278341fae127d0da654f102f11bd7b21d8aeefa635b8c810b6f",
        },
    ),
    "voc": Published(
        variable="KD_VOC",
        layout="VOCdevkit/VOC2007 and VOCdevkit/VOC2012",
        splits={
            "train2007": Split("VOCdevkit/VOC2007/JPEGImages", "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", 5_011),
            "train2012": Split("VOCdevkit/VOC2012/JPEGImages", "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt", 11_540),
            "test2007": Split("VOCdevkit/VOC2007/JPEGImages", "VOCdevkit/VOC2007/ImageSets/Main/test.txt", 4_952),
        },
        num_classes=20,
        archives=(
            Archive(
                f"{_VOC}/voc2007/VOCtrainval_06-Nov-2007.tar", 460_032_000, ("VOCdevkit/VOC2007",), 460_032_000,
                md5="c52e279531787c972589f7e41ab4ae64",
            ),
            Archive(
                f"{_VOC}/voc2007/VOCtest_06-Nov-2007.tar", 451_020_800, ("VOCdevkit/VOC2007",), 451_020_800,
                md5="b6e924de25625d8de591ea690078ad9f",
            ),
            Archive(
                f"{_VOC}/voc2012/VOCtrainval_11-May-2012.tar", 1_999_639_040, ("VOCdevkit/VOC2012",), 1_999_639_040,
                md5="6cd6e144f989b92b3379bac3b3de84fd",
            ),
        ),
    ),
    "cityscapes": Published(
        variable="KD_CITYSCAPES",
        layout="leftImg8bit/ and gtFine/",
        splits={
            "train": Split("leftImg8bit/train", "gtFine/train", 2_975),
            "val": Split("leftImg8bit/val", "gtFine/val", 500),
        },
        num_classes=19,
        account=(
            "Cityscapes is given to registered users only: make an account at https://www.cityscapes-dataset.com, download "
            "leftImg8bit_trainvaltest.zip (11 GB) and gtFine_trainvaltest.zip (0.24 GB) and unpack both there "
            "(by command: pip install cityscapesscripts, then csDownload leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip)"
        ),
    ),
}  # fmt: skip
