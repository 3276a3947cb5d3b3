"""The pixels that a network is evaluated on, against timm's own transforms on the same files."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from oneshot.data import FileSource, ImageData, TensorImages, digits, image_folder, prepare
from oneshot.data.decoding import CorruptImages, decode_all
from oneshot.data.preprocessing import Preprocessing

# Width and height: both orientations, odd ones, squares, smaller than the crop, much larger, long and thin.
SIZES = [(97, 64), (64, 97), (33, 50), (72, 72), (64, 64), (20, 31), (300, 211), (1023, 517), (400, 26), (26, 400)]


def photo(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth shapes with grain, as in photographs."""
    random = np.random.default_rng(seed)
    shapes = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize(
        (width, height), Image.Resampling.BICUBIC
    )
    grainy = np.asarray(shapes).astype(float) + random.normal(0, 12, (height, width, 3))
    return Image.fromarray(grainy.clip(0, 255).astype(np.uint8))


def timms(path: Path, size: int, crop_pct: float, interpolation: str) -> torch.Tensor:
    transform = create_transform((3, size, size), crop_pct=crop_pct, interpolation=interpolation, normalize=False)
    pixels: torch.Tensor = transform(Image.open(path).convert("RGB"))
    return pixels


def ours(path: Path, preprocessing: Preprocessing) -> torch.Tensor:
    return decode_all(FileSource([(str(path), 0)]), torch.tensor([0]), preprocessing, CorruptImages(0)).images[0]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_evaluation_pixels_are_timms(tmp_path: Path, interpolation: str, crop_pct: float, kind: str) -> None:
    for number, (width, height) in enumerate(SIZES):
        path = tmp_path / f"{number}.{kind}"
        photo(width, height, number).save(path)
        for size in (32, 64):
            got = ours(path, Preprocessing(size, crop_pct, interpolation))
            assert torch.equal(got, timms(path, size, crop_pct, interpolation))


@pytest.mark.parametrize(("width", "height"), [(3, 2000), (5000, 20)])
def test_of_very_long_images_only_the_centre_is_computed(tmp_path: Path, width: int, height: int) -> None:
    photo(width, height).save(tmp_path / "x.png")
    got, expected = ours(tmp_path / "x.png", Preprocessing(32, 0.875)), timms(tmp_path / "x.png", 32, 0.875, "bicubic")
    assert (got.int() - expected.int()).abs().max() <= 3
    Image.new("RGB", (1, 60_000), (9, 8, 7)).save(tmp_path / "y.png")  # 500,000 pixels high at 32 pixels of width
    assert ours(tmp_path / "y.png", Preprocessing(224, 0.875)).flatten(1).unique(dim=1).tolist() == [[9], [8], [7]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(6):
            photo(90 + number, 70 - number, number + 10 * (name == "b")).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("limit", [4, 0])
def test_every_split_of_a_folder_has_timms_pixels(photos: Path, limit: int) -> None:
    data = image_folder(photos, image_size=32, memory_limit_gb=limit, num_workers=0)
    assert (data.crop_pct, data.interpolation) == (0.875, "bicubic")
    for images in (data.train, data.held_out, data.test):
        pixels = next(images.batches([torch.arange(len(images))]))[0]
        for got, key in zip(pixels, images.keys, strict=True):
            assert torch.equal(got, timms(Path(key), 32, 0.875, "bicubic"))


@pytest.mark.parametrize("limit", [4, 0])
def test_training_crops_are_cut_from_the_stored_images(photos: Path, limit: int) -> None:
    """Against torchvision's crops of the file itself, and of the file reduced once."""
    from torchvision.transforms.v2 import functional as reference

    from oneshot.data.cropping import boxes_of, draw_boxes

    for size, reduced in ((64, None), (24, 48)):
        data = image_folder(photos, image_size=size, memory_limit_gb=limit, num_workers=0)
        chosen = torch.tensor([3, 0])
        crops = next(data.train.training_batches([chosen], data.augmentation, [torch.Generator().manual_seed(1)]))[0]
        whole = []
        for index in chosen.tolist():
            image = Image.open(data.train.keys[index])
            if reduced is not None:
                scale = reduced / image.height
                image = image.resize((round(scale * image.width), reduced), Image.Resampling.BICUBIC)
            whole.append(torch.from_numpy(np.array(image)).permute(2, 0, 1))
        heights, widths = (torch.tensor([image.shape[side] for image in whole]) for side in (1, 2))
        draws = draw_boxes(2, torch.Generator().manual_seed(1))
        boxes = boxes_of(draws, heights, widths, data.augmentation.crop_scale, data.augmentation.crop_ratio)
        for crop, image, (top, left, height, width) in zip(crops, whole, boxes.T.tolist(), strict=True):
            kernel = reference.InterpolationMode.BICUBIC
            assert torch.equal(
                crop, reference.resized_crop(image, top, left, height, width, [size, size], kernel, antialias=True)
            )


def test_the_crop_follows_the_size_of_the_images_unless_it_is_given(photos: Path) -> None:
    assert image_folder(photos, image_size=70).crop_pct == 1.0  # half of the images are no larger
    assert image_folder(photos, image_size=64).crop_pct == 0.875
    assert image_folder(photos, image_size=64, crop_pct=0.9).crop_pct == 0.9
    assert image_folder(photos, image_size=70, crop_pct=0.5, interpolation="bilinear").interpolation == "bilinear"
    assert digits(image_size=8).crop_pct == 1.0
    # What trained weights expect says nothing about small images.
    assert image_folder(photos, image_size=64, usual_crop_pct=0.95).crop_pct == 0.95
    assert image_folder(photos, image_size=70, usual_crop_pct=0.95).crop_pct == 1.0
    assert image_folder(photos, image_size=70, usual_crop_pct=0.95, crop_pct=0.9).crop_pct == 0.9
    with pytest.raises(ValueError, match=r"usual_crop_pct must be a part above 0 and up to 1, or null, got 1\.5"):
        image_folder(photos, image_size=70, usual_crop_pct=1.5)


def test_lower_resolutions_are_close_to_timms_direct_way(photos: Path) -> None:
    """The network's input is reduced from the centre at `image_size`: twice resampled, without the sharpness of once."""
    data = image_folder(photos, image_size=56, augmentation=None)
    assert isinstance(data.test, TensorImages)
    for resolution in (48, 32):
        got = prepare(data.test.images, resolution, (0, 0, 0), (1, 1, 1)) * 255
        direct = torch.stack([timms(Path(key), resolution, 0.875, "bicubic") for key in data.test.keys])
        assert (got - direct).abs().mean() < 6


def test_streams_keep_whole_images() -> None:
    from oneshot.data import Augmentation
    from oneshot.data.options import DataOptions
    from oneshot.data.timm_reading import _kept

    options = DataOptions(image_size=32, augmentation=Augmentation())
    image = photo(90, 70)
    assert (_kept(image, options) == np.asarray(image.resize((82, 64), Image.Resampling.BICUBIC))).all()
    deep = Image.fromarray(np.full((5, 6), 700, np.uint16))
    assert (_kept(deep, options) == 700).all()
    rgba = io.BytesIO()
    Image.new("RGBA", (5, 5), (0, 0, 0, 0)).save(rgba, "PNG")
    assert (_kept(Image.open(rgba), options) == 255).all()


def test_padded_crops_of_small_images_copy_pixels(make_folder: Callable[[dict[str, int]], Path]) -> None:
    data: ImageData = digits()
    chosen = torch.arange(20)
    centres = next(data.train.batches([chosen]))[0]
    assert torch.equal(next(data.train.training_batches([chosen], data.augmentation, iter(())))[0], centres)
