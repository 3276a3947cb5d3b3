"""Data sets read through timm: folders, tar files, torchvision's, WebDataset shards and Hugging Face."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oneshot.data import FileImages, ImageData, TensorImages, image_folder, timm_dataset

Maker = Callable[[dict[str, int]], Path]
SPLITS = ("train", "held_out", "test")
LAYOUT = {"train/cat": 6, "train/dog": 6, "validation/cat": 3, "validation/dog": 3}

# timm's reader of tar files and webdataset close their files only when they are collected.
leaves_files_open = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore:Exception ignored in. <_io:pytest.PytestUnraisableExceptionWarning"
)


def load(name: str, root: Path | None, **options: object) -> ImageData:
    return timm_dataset(name, root, image_size=8, num_workers=0, **options)  # type: ignore[arg-type]


def pixels_of(images: object) -> torch.Tensor:
    return next(images.batches([torch.arange(len(images))]))[0]  # type: ignore[attr-defined, arg-type]


def assert_disjoint(data: ImageData, total: int) -> None:
    keys = [key for split in SPLITS for key in getattr(data, split).keys]
    assert len(keys) == len(set(keys)) == total


@pytest.mark.parametrize("limit", [4, 0])
def test_a_folder_gives_what_image_folder_gives(make_folder: Maker, limit: int) -> None:
    root = make_folder(LAYOUT)
    data = load("", root, memory_limit_gb=limit)
    expected = image_folder(root, image_size=8)
    assert isinstance(data.train, TensorImages if limit else FileImages)
    assert data.classes == expected.classes
    assert data.mean == expected.mean
    for split in SPLITS:
        ours, theirs = getattr(data, split), getattr(expected, split)
        assert ours.keys == theirs.keys
        assert torch.equal(pixels_of(ours), pixels_of(theirs))


def test_hidden_folders_and_links_are_passed_over(make_folder: Maker, caplog: pytest.LogCaptureFixture) -> None:
    hidden = {"train/.thumbnails": 2, "train/cat/.ipynb_checkpoints": 2, "validation/@eaDir": 1}
    root = make_folder({**LAYOUT, **hidden})
    (root / "train" / "dog" / "._0.png").write_bytes(b"left behind by a Mac")
    (root / "train" / "dog" / "up").symlink_to(root / "train")
    data = load("", root)
    assert data.classes == ("cat", "dog")
    assert data.num_skipped == 0
    assert_disjoint(data, 18)
    assert "images in hidden or system folders: 164 (such as " in caplog.text
    assert "images that are there once more by a link: 480 (such as " in caplog.text
    for split in SPLITS:
        images = getattr(data, split)
        assert [Path(key).parent.name for key in images.keys] == [data.classes[label] for label in images.labels]
    mapped = load("", root, reader_options={"class_map": {"cat": 1, "dog": 0}})
    assert mapped.classes == ("dog", "cat")


def test_a_corrupt_image_is_skipped_not_replaced_by_its_neighbour(make_folder: Maker) -> None:
    root = make_folder(LAYOUT)
    (root / "validation" / "cat" / "1.png").write_bytes(b"broken")
    data = load("", root)
    assert data.num_skipped == 1
    assert len(data.test) == 5
    assert pixels_of(data.test).unique(dim=0).shape[0] == 5


def test_all_three_splits_by_name(make_folder: Maker) -> None:
    root = make_folder({**LAYOUT, "test/cat": 2, "test/dog": 2})
    data = load("", root, held_out_split="validation", test_split="test")
    assert [len(getattr(data, split)) for split in SPLITS] == [12, 6, 4]
    assert_disjoint(data, 22)


def test_a_folder_without_splits_is_never_its_own_test_set(make_folder: Maker) -> None:
    root = make_folder({"cat": 8, "dog": 8})
    with pytest.raises(
        ValueError, match=r"data.train_split=train and data.test_split=validation are the same images; set"
    ):
        load("", root)
    assert_disjoint(load("", root, test_split=None), 16)


def test_a_missing_split_that_timm_replaces_by_everything_is_noticed(make_folder: Maker) -> None:
    root = make_folder({"a/cat": 1, "a/dog": 1, "train/cat": 6, "train/dog": 6})
    with pytest.raises(ValueError, match=r"6 of the 6 training images of class 'cat', .* are also test images"):
        load("", root)


def test_classes_that_differ_between_splits_are_named(make_folder: Maker) -> None:
    root = make_folder({"train/cat": 5, "train/dog": 5, "validation/dog": 2})
    with pytest.raises(ValueError, match="class 'dog' of the test images is number 0, but 1 in the training images"):
        load("", root)


@leaves_files_open
@pytest.mark.parametrize("limit", [4, 0])
def test_a_tar_file(make_folder: Maker, limit: int) -> None:
    root = make_folder({"cat": 8, "dog": 8})
    archive = root.parent / "pets.tar"
    with tarfile.open(archive, "w") as file:
        for path in sorted(root.glob("*/*")):
            file.add(path, path.relative_to(root))
    data = load("", archive, test_split=None, memory_limit_gb=limit)
    expected = image_folder(root, image_size=8)
    assert data.classes == ("cat", "dog")
    assert_disjoint(data, 16)
    assert torch.equal(pixels_of(data.test), pixels_of(expected.test))


def test_torchvisions_folder(make_folder: Maker) -> None:
    data = load("torch/image_folder", make_folder(LAYOUT))
    assert data.classes == ("cat", "dog")
    assert [len(getattr(data, split)) for split in SPLITS] == [10, 2, 6]


def write_shards(root: Path, counts: dict[str, int], broken: int = 0) -> dict[str, list[np.ndarray]]:
    root.mkdir()
    random = np.random.default_rng(0)
    written: dict[str, list[np.ndarray]] = {}
    for split, count in counts.items():
        written[split] = []
        with tarfile.open(root / f"{split}-0.tar", "w") as file:
            for index in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "PNG")
                encoded = b"broken" if index < broken else buffer.getvalue()
                written[split].append(pixels)
                for ending, content in (("png", encoded), ("cls", str(index % 2).encode())):
                    info = tarfile.TarInfo(f"{split}{index:03}.{ending}")
                    info.size = len(content)
                    file.addfile(info, io.BytesIO(content))
    splits = {
        split: {"name": split, "num_samples": count, "filenames": [f"{split}-0.tar"], "shard_lengths": [count]}
        for split, count in counts.items()
    }
    (root / "_info.json").write_text(json.dumps({"splits": splits}))
    return written


@leaves_files_open
class TestWebDataset:
    @pytest.fixture(autouse=True)
    def _needs_webdataset(self) -> None:
        pytest.importorskip("webdataset")

    def test_shards_are_read_once_in_order(self, tmp_path: Path) -> None:
        written = write_shards(tmp_path / "shards", {"train": 20, "validation": 6})
        data = load("wds/", tmp_path / "shards")
        assert [len(getattr(data, split)) for split in SPLITS] == [16, 4, 6]
        assert_disjoint(data, 26)
        assert torch.equal(pixels_of(data.test), torch.from_numpy(np.stack(written["validation"])).permute(0, 3, 1, 2))
        assert data.test.labels.tolist() == [0, 1, 0, 1, 0, 1]

    def test_shards_by_name_without_an_index(self, tmp_path: Path) -> None:
        write_shards(tmp_path / "shards", {"train": 20, "validation": 6})
        (tmp_path / "shards" / "_info.json").unlink()
        data = load("wds/", tmp_path / "shards", train_split="train-{0..0}.tar", test_split="validation-0.tar")
        assert [len(getattr(data, split)) for split in SPLITS] == [16, 4, 6]
        assert data.classes == ("0", "1")

    def test_corrupt_images_are_counted(self, tmp_path: Path) -> None:
        write_shards(tmp_path / "shards", {"train": 20, "validation": 10}, broken=2)
        data = load("wds/", tmp_path / "shards", max_corrupt=2)
        assert data.num_skipped == 4
        assert len(data.test) == 8
        with pytest.raises(
            ValueError, match=r"only 18 images of wds/:train could be read, 20 were expected .*max_corrupt=1"
        ):
            load("wds/", tmp_path / "shards", max_corrupt=1)

    def test_streams_beyond_the_memory_limit_are_refused(self, tmp_path: Path) -> None:
        write_shards(tmp_path / "shards", {"train": 20, "validation": 6})
        assert len(load("wds/", tmp_path / "shards", memory_limit_gb=26 * 192 / 1e9).test) == 6
        with pytest.raises(
            ValueError, match=r"wds/:validation is a stream of more images than fit into data.memory_limit_gb"
        ):
            load("wds/", tmp_path / "shards", memory_limit_gb=25 * 192 / 1e9)

    def test_random_crops_see_whole_images(self, tmp_path: Path) -> None:
        write_shards(tmp_path / "shards", {"train": 20, "validation": 6})
        data = timm_dataset("wds/", tmp_path / "shards", image_size=5, num_workers=0)
        assert isinstance(data.train, TensorImages)
        assert data.train.whole is not None
        assert {tuple(image.shape) for image in data.train.whole} == {(3, 8, 8)}  # below twice the size: as they are

    def test_a_missing_split_is_named(self, tmp_path: Path) -> None:
        write_shards(tmp_path / "shards", {"train": 20})
        with pytest.raises(
            ValueError, match="timm cannot open split 'validation' of 'wds/': RuntimeError: split validation"
        ):
            load("wds/", tmp_path / "shards")


class TestHuggingFace:
    @pytest.fixture(autouse=True)
    def _needs_datasets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("datasets")
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)

    @pytest.mark.parametrize("limit", [4, 0])
    def test_a_local_directory(self, make_folder: Maker, tmp_path: Path, limit: int) -> None:
        root = make_folder(LAYOUT)
        (root / "validation" / "cat" / "1.png").write_bytes(b"broken")
        data = load(f"hfds/{root}", tmp_path / "cache", memory_limit_gb=limit)
        expected = image_folder(root, image_size=8)
        assert data.classes == ("cat", "dog")
        assert isinstance(data.train, TensorImages if limit else FileImages)
        assert_disjoint(data, 17 if limit else 18)
        for split in SPLITS:
            assert torch.equal(pixels_of(getattr(data, split)), pixels_of(getattr(expected, split)))

    def test_labels_that_are_names_need_a_class_map(self, make_folder: Maker, tmp_path: Path) -> None:
        import datasets

        files = sorted(str(path) for path in make_folder({"cat": 6, "dog": 6}).glob("*/*"))
        table = datasets.Dataset.from_dict({"picture": files, "kind": [Path(file).parent.name for file in files]})
        table.cast_column("picture", datasets.Image()).to_parquet(tmp_path / "table" / "train.parquet")
        columns = {"input_key": "picture", "target_key": "kind"}
        arguments = {"name": f"hfds/{tmp_path / 'table'}", "root": tmp_path / "cache", "test_split": None}
        with pytest.raises(ValueError, match=r"hfds/.*:train has the label 'cat', which is not a class number; give"):
            load(**arguments, reader_options=columns)
        data = load(**arguments, reader_options={**columns, "class_map": {"cat": 1, "dog": 0}})
        assert data.classes == ("dog", "cat")
        assert torch.bincount(data.train.labels).tolist() == [4, 4]

    def test_a_missing_split_is_named(self, make_folder: Maker, tmp_path: Path) -> None:
        root = make_folder(LAYOUT)
        with pytest.raises(
            ValueError, match=r"timm cannot open split 'tset' of 'hfds/.*Unknown split \"tset\""
        ) as caught:
            load(f"hfds/{root}", tmp_path / "cache", test_split="tset")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        (
            "cifar10",
            None,
            r"name must begin with one of hfds/, hfids/, tfds/, torch/, wds/ or be empty .* got 'cifar10'",
        ),
        ("hdfs/x", None, r"got 'hdfs/x'; did you mean 'hfds'\?"),
        ("", None, "data.root must be set for 'a folder or tar file'"),
        ("torch/cifar10", None, "data.root must be set for 'torch/cifar10'"),
        (
            "torch/cifar11",
            "x",
            "timm cannot open split 'train' of 'torch/cifar11': AssertionError: Unknown torchvision",
        ),
    ],
)
def test_names_that_are_refused(name: str, root: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        timm_dataset(name, root)


def test_a_missing_root_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; set data.root"):
        load("", tmp_path / "nowhere")
