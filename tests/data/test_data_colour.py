"""Images of every mode, depth, transparency and orientation, written by the tests and read back."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image, ImageCms, ImageOps
from PIL.Image import Transpose

from oneshot.data import ImageData, image_folder
from oneshot.data.colour import is_deep, to_rgb

SIZE = 8


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def reopened(image: Image.Image, kind: str = "PNG", **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer)


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow writes only in grey."""
    height, width = values.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]]

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(values: np.ndarray, order: str, compressed: bool) -> bytes:
    """An RGB TIFF of 16 bits a channel."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    entries = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, None), (259, 3, 1, 8 if compressed else 1), (262, 3, 1, 2),
        (273, 4, 1, None), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    bits_at = 8 + 2 + 12 * len(entries) + 4
    content = struct.pack(f"{order}2sHIH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        offset = {258: bits_at, 273: bits_at + 6}.get(tag, value)
        packed = struct.pack(f"{order}HH", offset, 0) if kind == 3 and count == 1 else struct.pack(f"{order}I", offset)
        content += struct.pack(f"{order}HHI", tag, kind, count) + packed
    return content + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + data


def save_classes(root: Path, contents: list[bytes], ending: str) -> Path:
    """Each content once in each of two classes, in files that differ behind the image; its number is its name."""
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number, content in enumerate(contents):
            (root / name / f"{number}.{ending}").write_bytes(content + f"{root.name} {name} {number}".encode())
    return root


def pixels_by_name(data: ImageData) -> dict[str, np.ndarray]:
    return {
        str(Path(key).relative_to(Path(key).parents[1])): pixels.numpy()
        for images in (data.train, data.held_out, data.test)
        for key, pixels in zip(images.keys, images.images, strict=True)  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"])
def test_modes_of_eight_bits_are_pillows_conversion(mode: str) -> None:
    if mode == "YCbCr" and int(PIL.__version__.partition(".")[0]) < 12:
        pytest.skip("needs Pillow 12, which reads the YCbCr that it writes")
    image = Image.fromarray(noise(6, 5, 3)).convert(mode)
    stored = reopened(image, "TIFF") if mode in ("1", "CMYK", "YCbCr") else image
    assert stored.mode == mode
    assert not is_deep(stored)
    got = to_rgb(stored, None)
    assert got.mode == "RGB"
    assert (np.asarray(got) == np.asarray(image.convert("RGB"))).all()


def test_lab() -> None:
    colours = Image.fromarray(np.array([[[200, 30, 40], [20, 120, 220], [90, 90, 90]]], np.uint8))
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    stored = reopened(ImageCms.profileToProfile(colours, srgb, lab, outputMode="LAB"), "TIFF")
    assert stored.mode == "LAB"
    assert np.abs(np.asarray(to_rgb(stored, None)).astype(int) - np.asarray(colours)).max() <= 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparent_parts_are_white(mode: str) -> None:
    rgba = noise(6, 5, 4)
    rgba[0, 0, 3], rgba[0, 1, 3] = 0, 255
    if mode != "RGBA":
        rgba[..., 1] = rgba[..., 2] = rgba[..., 0]
    image = Image.fromarray(rgba).convert(mode)
    stored = image if mode == "PA" else reopened(image)
    assert stored.mode == mode
    source = np.asarray(image.convert("RGBA")).astype(float)
    alpha = source[..., 3:] / 255
    expected = source[..., :3] * alpha + 255 * (1 - alpha)
    got = np.asarray(to_rgb(stored, None)).astype(float)
    assert np.abs(got - expected).max() <= 1
    assert (got[0, 0] == 255).all()
    assert (got[0, 1] == source[0, 1, :3]).all()


def test_transparent_colours_of_palettes_and_of_whole_images_are_white() -> None:
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    palette.putdata([0, 1, 2])
    got = np.asarray(to_rgb(reopened(palette, transparency=bytes([255, 0, 128])), None)).astype(int)
    assert got[0, :2].tolist() == [[10, 20, 30], [255, 255, 255]]
    assert np.abs(got[0, 2] - [162, 167, 172]).max() <= 1
    for mode, colour, key in (("L", 7, 7), ("RGB", (1, 2, 3), (1, 2, 3))):
        assert np.asarray(to_rgb(reopened(Image.new(mode, (2, 2), colour), transparency=key), None)).min() == 255


def test_a_shape_in_the_alpha_channel_alone_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    contents = []
    for number in range(6):
        rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
        rgba[: number + 1, 1:4, 3] = 255
        buffer = io.BytesIO()
        Image.fromarray(rgba).save(buffer, "PNG")
        contents.append(buffer.getvalue())
    pixels = pixels_by_name(image_folder(save_classes(tmp_path, contents, "png"), image_size=SIZE))
    assert len({value.tobytes() for value in pixels.values()}) == 6
    assert pixels["a/2.png"][:, 2, 2].tolist() == [0, 0, 0]
    assert pixels["a/2.png"][:, 3, 2].tolist() == [255, 255, 255]
    assert "all alike" not in caplog.text


def test_images_that_are_all_alike_are_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (9, 9, 200)).save(buffer, "PNG")
    image_folder(save_classes(tmp_path / "same", [buffer.getvalue()] * 5, "png"), image_size=SIZE)
    assert "the training images of same are all alike: every pixel has the colour 9, 9, 200 (of 255)" in caplog.text


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_twelve_bits_in_sixteen_fill_the_range(tmp_path: Path, channels: int, caplog: pytest.LogCaptureFixture) -> None:
    values = np.random.default_rng(1).integers(0, 4096, (6, SIZE, SIZE, channels)).astype(np.uint16)
    values[:, 0, 0, 0] = 4001  # so that every split of the set has the range
    if channels in (2, 4):
        values[..., -1] = 65535
        values[:, 1, 1, -1] = 0
    with caplog.at_level("INFO"):
        data = image_folder(save_classes(tmp_path, [png16(image) for image in values], "png"), image_size=SIZE)
    assert data.pixel_range == (0.0, 4095.0)
    assert data.card()["pixel_range"] == [0.0, 4095.0]
    assert "0 becomes black and 4095 white, as measured on the training images" in caplog.text
    colours = values[..., :3] if channels >= 3 else np.repeat(values[..., :1], 3, axis=3)
    expected = np.rint(colours / 4095 * 255).astype(np.uint8)
    if channels in (2, 4):
        expected[:, 1, 1] = 255
    pixels = pixels_by_name(data)
    for number in range(6):
        assert (pixels[f"b/{number}.png"].transpose(1, 2, 0) == expected[number]).all()
    told = image_folder(tmp_path, image_size=SIZE, pixel_range=[0, 65535])
    assert np.concatenate(list(pixels_by_name(told).values()))[:, 2:].max() <= 16


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_colour_tiffs_of_sixteen_bits(order: str, compressed: bool) -> None:
    values = np.random.default_rng(2).integers(0, 1024, (SIZE, 5, 3)).astype(np.uint16)
    image = Image.open(io.BytesIO(tiff16(values, order, compressed)))
    assert is_deep(image)
    assert (np.asarray(to_rgb(image, (0.0, 1023.0))) == np.rint(values / 1023 * 255)).all()


def test_float_images_are_scaled_from_least_to_greatest(tmp_path: Path) -> None:
    values = np.random.default_rng(3).normal(0, 1e-3, (6, SIZE, SIZE)).astype(np.float32)
    values[:, 0, 0], values[:, 0, 1] = -0.01, 0.03
    values[2, 5, 5], values[2, 5, 6], values[2, 5, 7] = np.nan, np.inf, -np.inf
    contents = []
    for image in values:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "TIFF")
        contents.append(buffer.getvalue())
    data = image_folder(save_classes(tmp_path, contents, "tif"), image_size=SIZE)
    assert data.pixel_range == pytest.approx((-0.01, 0.03))
    pixels = pixels_by_name(data)
    expected = np.rint((values[1] + 0.01) / 0.04 * 255)
    assert np.abs(pixels["a/1.tif"][0].astype(float) - expected).max() <= 1
    assert pixels["a/2.tif"][0, 5, 5:].tolist() == [0, 255, 0]


def test_integers_beside_fractions_have_no_range_in_common(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE), 0.5, np.float32)).save(buffer, "TIFF")
    contents = [png16(np.full((SIZE, SIZE, 1), 300, np.uint16)), buffer.getvalue()] * 3
    root = save_classes(tmp_path, contents, "png")
    with pytest.raises(
        ValueError, match=r"integers of more than 8 bits, up to 300, and others .* numbers, up to 0\.5: no range"
    ):
        image_folder(root, image_size=SIZE)
    assert image_folder(root, image_size=SIZE, pixel_range=[0, 600]).pixel_range == (0.0, 600.0)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_integers_of_any_byte_order(mode: str) -> None:
    values = np.random.default_rng(4).integers(0, 65536, (4, 5))
    image = Image.fromarray(values.astype({"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]))
    assert image.mode == mode
    assert is_deep(image)
    assert (np.asarray(to_rgb(image, (0.0, 65535.0)))[..., 1] == np.rint(values / 257)).all()


def test_a_deep_image_among_others_needs_to_be_told_how(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = np.full((SIZE, SIZE, 1), 300, np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(noise(SIZE, SIZE)).save(buffer, "PNG")
    for split, number in (("train", 5), ("test", 2)):
        save_classes(tmp_path / split, [buffer.getvalue()] * number, "png")
    (tmp_path / "test" / "a" / "deep.png").write_bytes(png16(values))
    assert image_folder(tmp_path, image_size=SIZE).num_skipped == 1
    assert "more than 8 bits a channel (mode I;16), unlike the training images" in caplog.text
    data = image_folder(tmp_path, image_size=SIZE, pixel_range=[0, 600])
    assert pixels_by_name(data)["a/deep.png"].max() == 128


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_are_turned_upright(orientation: int, kind: str) -> None:
    image = Image.fromarray(noise(6, 9, 3))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = reopened(image, kind, exif=exif)
    got = to_rgb(reopened(image, kind, exif=exif), None)
    expected = ImageOps.exif_transpose(stored)
    assert got.size == ((9, 6) if orientation < 5 else (6, 9))
    assert (np.asarray(got) == np.asarray(expected)).all()
    if kind == "PNG" and orientation == 6:
        assert (np.asarray(got) == np.asarray(image.transpose(Transpose.ROTATE_270))).all()


def test_deep_images_are_turned_upright() -> None:
    values = np.random.default_rng(4).integers(0, 65536, (4, 5)).astype("<u2")
    exif = Image.Exif()
    exif[0x0112] = 8
    got = to_rgb(reopened(Image.fromarray(values), exif=exif), (0.0, 65535.0))
    assert (np.asarray(got)[..., 0] == np.rot90(np.rint(values / 257))).all()


def test_broken_exif_data_do_not_spoil_the_pixels() -> None:
    image = Image.fromarray(noise(6, 9, 3))
    stored = reopened(image, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 20)
    assert (np.asarray(to_rgb(stored, None)) == np.asarray(image)).all()
