"""Lookup tables: published ones give the published sums, and a table measured here has every layer that is asked for."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from space_examples import SPACES
from torch import Tensor, nn

from oneshot.arch import Arch, Choice
from oneshot.costs import LatencyTable, LayerTime, MeasureSettings, TableCheck, check_table, measure_table
from oneshot.published import from_published
from oneshot.spaces import Make, NASBenchMacro, OFAMobileNetV3, OFAProxyless, SearchSpace

QUICK = MeasureSettings(warmup=0, repeats=2)
NET = {"ks": [3, 5, 7, 3] * 5, "e": [3, 4, 6, 3] * 5, "d": [2, 3, 4, 3, 2], "r": [160]}


def published_layers(net: dict[str, Any], size: int) -> list[str]:
    """The names of the lines that the published estimator adds up, at width 1.2, written from its description alone."""

    def block(inputs: int, outputs: int, middle: int, kernel: int, stride: int, se: bool, swish: bool) -> str:
        after = (size - 1) // stride + 1
        name = f"expanded_conv-input:{size}x{size}x{inputs}-output:{after}x{after}x{outputs}-expand:{middle}-kernel:{kernel}"
        skip = stride == 1 and inputs == outputs
        return f"{name}-stride:{stride}-idskip:{int(skip)}-se:{int(se)}-hs:{int(swish)}"

    names = [f"Conv-input:{size}x{size}x3-output:{(size + 1) // 2}x{(size + 1) // 2}x24"]
    size = (size + 1) // 2
    names.append(block(24, 24, 24, 3, 1, False, False))
    channels = 24
    stages = [(32, 2, 0, 0), (48, 2, 1, 0), (96, 2, 0, 1), (136, 1, 1, 1), (192, 2, 1, 1)]
    for stage, (width, first_stride, se, swish) in enumerate(stages):
        for index in range(net["d"][stage]):
            slot, stride = 4 * stage + index, first_stride if index == 0 else 1
            names.append(
                block(channels, width, channels * net["e"][slot], net["ks"][slot], stride, bool(se), bool(swish))
            )
            size, channels = (size - 1) // stride + 1, width
    return [
        *names,
        f"Conv_1-input:{size}x{size}x192-output:{size}x{size}x1152",
        f"AvgPool2D-input:{size}x{size}x1152-output:1x1x1152",
        "Conv_2-input:1x1x1152-output:1x1x1536",
        "Logits-input:1x1x1536-output:1000",
    ]


def test_a_published_table_gives_the_published_sum(shared_data: Path) -> None:
    folder = shared_data / "ofa" / "note10"
    space = OFAMobileNetV3(resolutions=(160, 176, 192, 208, 224), width_multiplier=1.2)
    table = LatencyTable.load(folder, space)
    assert list(table.times) == [160, 176, 192, 208, 224]
    for size in (160, 208):
        lines = yaml.safe_load((folder / f"{size}_lookup_table.yaml").read_text())
        names = published_layers(NET, size)
        assert set(names) <= lines.keys()
        arch = from_published(space, NET | {"r": size})
        contributions = table.contributions(arch)
        assert contributions["stem"] == lines[names[0]]["mean"]
        assert contributions["stage2.block3"] == lines[names[6]]["mean"]
        assert contributions[""] == lines[names[-3]]["mean"]
        assert len(contributions) == len(names)
        assert table.latency(arch) == pytest.approx(sum(lines[name]["mean"] for name in names), rel=1e-12)


def test_published_subnets_on_the_note10(shared_data: Path) -> None:
    """As PyPI's `ofa` 0.1.0.post202307202001 predicts them from the same files."""
    rows = json.loads((shared_data / "ofa" / "published_subnets.json").read_text())
    space = OFAMobileNetV3(resolutions=(224,), width_multiplier=1.2)
    table = LatencyTable.load(shared_data / "ofa" / "note10" / "224_lookup_table.yaml", space)
    found = {row["name"]: row for row in rows if row["width_mult"] == 1.2 and row["resolution"] == 224}
    predicted = {name.split("_")[0]: table.latency(from_published(space, row)) for name, row in found.items()}
    assert predicted == pytest.approx({"flops-389M": 34.922861064, "pixel1": 31.3819245178}, rel=1e-9)


def test_the_proxyless_names() -> None:
    space = OFAProxyless(resolutions=(224,))
    arch = from_published(space, {"ks": [5] * 21, "e": [4] * 21, "d": [2] * 5 + [1]})
    table = LatencyTable({224: {}}, space)
    names = []
    while True:
        try:
            table.latency(arch)
            break
        except ValueError as error:
            name = str(error).split("'")[1]
            table.times[224][name] = LayerTime(2.0)
            names.append(name)
    assert names[:3] == [
        "Conv-input:224x224x3-output:112x112x40",
        "expanded_conv-input:112x112x40-output:112x112x24-expand:1-kernel:3-stride:1-idskip:0",
        "expanded_conv-input:112x112x24-output:56x56x32-expand:4-kernel:5-stride:2-idskip:0",
    ]
    assert names[-2:] == ["Conv_1-input:7x7x416-output:7x7x1664", "Logits-input:7x7x1664-output:1000"]
    assert table.latency(arch) == 2.0 * (2 + 11 + 2)


class Joined(SearchSpace):
    """Adds and pools outside of its blocks, and calls one block twice."""

    num_classes = 2
    resolution = 8

    def __init__(self) -> None:
        self.choices = (Choice("width", (4, 6)), Choice("again", (False, True)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = arch.integer("width")
        return Twice(
            make("stem", nn.Conv2d, 3, width, 3, padding=1),
            make("block", nn.Conv2d, width, width, kernel_size=1, bias=False),
            make("head", nn.Linear, width, self.num_classes),
            bool(arch["again"]),
        )


class Twice(nn.Module):
    def __init__(self, stem: nn.Module, block: nn.Module, head: nn.Module, again: bool) -> None:
        super().__init__()
        self.stem, self.block, self.head, self.again = stem, block, head, again

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = x + self.block(x)
        x = x + self.block(x) if self.again else x
        pooled = x.flatten(2).mean(-1)
        logits: Tensor = self.head(pooled)
        return logits


def test_layers_of_any_space_have_names() -> None:
    space = Joined()
    times = {
        "Conv2d-input:8x8x3-output:8x8x4-in_channels:3-out_channels:4-kernel_size:3-padding:1": LayerTime(1.0),
        "Conv2d-input:8x8x4-output:8x8x4-in_channels:4-out_channels:4-kernel_size:1-bias:0": LayerTime(10.0),
        "add-input:8x8x4+8x8x4-output:8x8x4": LayerTime(100.0),
        "mean-input:4x64-output:4-dim:[-1]": LayerTime(1000.0),
        "Linear-input:4-output:2-in_features:4-out_features:2": LayerTime(10000.0),
    }
    table = LatencyTable({8: times}, space)
    assert table.contributions(space.arch({"width": 4, "again": False})) == {
        **{"stem": 1.0, "block": 10.0, "": 1100.0, "head": 10000.0},
    }
    assert table.latency(space.arch({"width": 4, "again": True})) == 11221.0
    with pytest.raises(
        ValueError,
        match=r"size 8 has no layer 'Conv2d-input:8x8x3-output:8x8x6-.*'; did you mean 'Conv2d-input:8x8x3-output:8x8x4-",
    ):
        table.latency(space.arch({"width": 6, "again": True}))
    with pytest.raises(ValueError, match="choice 'width' cannot be 5"):
        table.latency(Arch({"width": 5, "again": True}))


def test_saving_and_loading(tmp_path: Path) -> None:
    space = NASBenchMacro(num_classes=3, resolution=16, channels=8, head_channels=16)
    name = "a-very-long-name" * 20
    times = {16: {name: LayerTime(0.25, 0.125, 7), "b: [1]": LayerTime(1e-5)}, 32: {name: LayerTime(3.0)}}
    LatencyTable(times, space, {"device": "phone"}).save(tmp_path / "table")
    assert sorted(path.name for path in (tmp_path / "table").iterdir()) == [
        *("16_lookup_table.yaml", "32_lookup_table.yaml", "table.json"),
    ]
    read = LatencyTable.load(tmp_path / "table")
    assert read.times == times
    assert read.space is not None
    assert (read.space.definition, read.description["device"]) == (space.definition, "phone")
    files = [str(tmp_path / "table" / f"{size}_lookup_table.yaml") for size in (32, 16)]
    assert LatencyTable.load(files).times == times
    assert LatencyTable.load(files[0]).times == {32: times[32]}
    plain = yaml.safe_load(Path(files[0]).read_text())
    assert plain == {name: {"count": 1, "mean": 3.0, "std": 0.0}}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "table.yaml",
            "a: {mean: 1}",
            "table.yaml: the name of a latency table begins with its input size, as 160_lookup",
        ),
        ("8_t.yaml", "a: {mean: [", r"8_t.yaml is not YAML: while parsing"),
        ("8_t.yaml", "", "8_t.yaml is no latency table: it holds nothing"),
        ("8_t.yaml", "- a", "8_t.yaml is no latency table: it holds list"),
        ("8_t.yaml", "Conv: 3", "the mean of layer 'Conv' is a number from 0, not None"),
        ("8_t.yaml", "Conv: {mean: fast}", "the mean of layer 'Conv' is a number from 0, not 'fast'"),
        ("8_t.yaml", "Conv: {mean: .nan}", "the mean of layer 'Conv' is a number from 0, not nan"),
        ("8_t.yaml", "Conv: {mean: 1, std: -1}", "the std of layer 'Conv' is a number from 0, not -1"),
        ("8_t.yaml", "Conv: {mean: 1, count: true}", "the count of layer 'Conv' is a number from 0, not True"),
        (
            "8_t.yaml",
            "a: !!python/object/apply:os.getcwd []",
            "8_t.yaml is not YAML: could not determine a constructor",
        ),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as refused:
        LatencyTable.load(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_table_says_how_far_its_sums_were_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    LatencyTable({8: {"a": LayerTime(1.0)}}, description={"device": "cpu"}).save(tmp_path)
    assert LatencyTable.load(tmp_path, Joined()).summed_over("there") == "summed over there of device cpu"
    TableCheck([1.0, 2.0], [1.2, 2.0], 0.0834, 0.9).save(tmp_path)
    table = LatencyTable.load(tmp_path, Joined())
    assert table.check == TableCheck([1.0, 2.0], [1.2, 2.0], 0.0834, 0.9)
    assert table.summed_over("there").endswith("device cpu, off by 8.3% (median) in whole networks")
    assert not caplog.messages
    TableCheck([1.0, 2.0], [2.0, 1.5], 0.4, -1.0).save(tmp_path)
    LatencyTable.load(tmp_path, Joined())
    assert "does not put networks in order" in caplog.text
    assert "2 whole networks" in caplog.text
    (tmp_path / "check.json").write_text('{"predicted": 3}')
    with pytest.raises(ValueError, match=r"check\.json is no check of a latency table"):
        LatencyTable.load(tmp_path, Joined())


def test_tables_that_cannot_be_looked_up(tmp_path: Path) -> None:
    for name in ("8_lookup_table.yaml", "nowhere"):
        with pytest.raises(FileNotFoundError, match="there is no latency table"):
            LatencyTable.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="holds no latency table"):
        LatencyTable.load(tmp_path)
    space = Joined()
    arch = space.largest
    with pytest.raises(ValueError, match=r"no latency table of input size 8; there are \[16\]"):
        LatencyTable({16: {}}, space).latency(arch)
    with pytest.raises(ValueError, match="does not say of which space it is"):
        LatencyTable({8: {}}).latency(arch)
    for name in ("8_a_lookup_table.yaml", "08_lookup_table.yaml"):
        (tmp_path / name).write_text("a: {mean: 1}")
    with pytest.raises(ValueError, match="is a second table of input size 8"):
        LatencyTable.load(tmp_path)


# Measuring -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nasbench_macro", "cell", "vit"])
def test_a_measured_table_has_every_layer(name: str) -> None:
    space = SPACES[name]()
    table = measure_table(space, settings=QUICK)
    rng = random.Random(5)
    for _ in range(40):
        arch = space.sample(rng)
        assert 0 < table.latency(arch) < math.inf
        assert set(table.contributions(arch)) > {""} or name == "nasbench_macro"
    check = check_table(table, 4, QUICK)
    assert len(check.predicted) == len(check.measured) == 4
    errors = sorted(abs(one / other - 1) for one, other in zip(check.predicted, check.measured, strict=True))
    assert check.median_relative_error == pytest.approx((errors[1] + errors[2]) / 2)
    assert check.correlation is None or -1 <= check.correlation <= 1


class Sleeping(nn.Module):
    """Takes longer the larger its width is."""

    def __init__(self, milliseconds: int) -> None:
        super().__init__()
        self.milliseconds = milliseconds
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type == "cpu":
            import time

            assert torch.is_inference_mode_enabled()
            assert not self.training
            assert len(x) == 3
            time.sleep(self.milliseconds / 1e3)
        return x.mean((2, 3))


class SleepSpace(SearchSpace):
    num_classes = 3

    def __init__(self) -> None:
        self.choices = (Choice("resolution", (4, 6, 8)), Choice("milliseconds", (2, 12)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return nn.Sequential(make("sleep", Sleeping, arch["milliseconds"]))


def test_times_are_those_of_the_layers_and_measuring_goes_on(tmp_path: Path) -> None:
    space = SleepSpace()
    settings = MeasureSettings(batch=3, warmup=1, repeats=3)
    table = measure_table(space, [6], settings, tmp_path)
    assert list(table.times) == [6]
    short, long = (table.times[6][f"Sleeping-input:6x6x3-output:3-milliseconds:{duration}"] for duration in (2, 12))
    assert 2 <= short.mean < 9
    assert 12 <= long.mean < 30
    assert short.count == 3
    assert table.latency(space.arch({"resolution": 6, "milliseconds": 12})) == long.mean
    # What the folder holds is kept, also of other sizes.
    (tmp_path / "6_lookup_table.yaml").write_text("Sleeping-input:6x6x3-output:3-milliseconds:2: {mean: 77}")
    more = measure_table(space, [6, 8], settings, tmp_path)
    assert more.times[6]["Sleeping-input:6x6x3-output:3-milliseconds:2"].mean == 77
    assert {size: len(layers) for size, layers in LatencyTable.load(tmp_path, space).times.items()} == {6: 2, 8: 2}
    with pytest.raises(
        ValueError, match=r"holds a table measured otherwise \(batch was 3 and is 1\); use another folder"
    ):
        measure_table(space, [8], QUICK, tmp_path)


def test_measuring_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"choice 'resolution' cannot be 5; its options are \[4, 6, 8\]"):
        measure_table(SleepSpace(), [5])
    with pytest.raises(ValueError, match="the input size of this space is 8, not 16"):
        measure_table(Joined(), [16])
    with pytest.raises(ValueError, match="device 'phone' cannot be used here"):
        measure_table(Joined(), settings=MeasureSettings(device="phone"))
    for name in ("batch", "threads", "repeats"):
        with pytest.raises(ValueError, match=f"latency.{name} is at least 1, not 0"):
            MeasureSettings(**{name: 0})
