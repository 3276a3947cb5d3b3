"""The page of a training run, and the curves it draws."""

import json
import math
import random
import re
import shutil
import subprocess
from importlib.resources import files

import pytest

from oneshot.report import Curve, write_training_report
from oneshot.report.curves import is_noisy, running_mean, thin


def write(path, groups, facts=None, title="A run"):
    write_training_report(path, title=title, groups=groups, facts=facts or {})
    page = path.read_text(encoding="utf-8")
    match = re.search(r'id="report-data">(.*?)</script>', page, re.DOTALL)
    assert match
    return page, json.loads(match[1])["groups"]


def test_page_holds_every_group(tmp_path):
    groups = {
        "loss": [Curve("train", [2, 1], [0.5, 1.0])],
        "accuracy": [Curve("largest", [1], [0.1]), Curve("smallest", [], [])],
        "nothing": [],
    }
    page, data = write(tmp_path / "run.html", groups, {"seed": "7"})
    assert set(re.findall(r"[a-z]+://[^\s\"'<>)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert [group["name"] for group in data] == list(groups)
    assert data[0]["curves"][0]["steps"] == [1, 2]
    assert data[0]["curves"][0]["values"] == [1.0, 0.5]
    assert all(f'id="lines-{number}"' in page for number in range(3))
    assert "<dt>seed</dt><dd>7</dd>" in page


def test_hostile_text_stays_text(tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    page, data = write(tmp_path / "run.html", {hostile: [Curve(hostile, [1], [1.0])]}, {hostile: hostile}, hostile)
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert data[0]["curves"][0]["name"] == hostile


def test_values_that_are_not_finite_are_counted(tmp_path):
    _, data = write(tmp_path / "run.html", {"loss": [Curve("train", [1, 2, 3], [1.0, math.nan, math.inf])]})
    assert data[0]["curves"][0]["values"] == [1.0, None, None]
    assert data[0]["curves"][0]["lost"] == 2


def test_a_long_curve_is_thinned_but_keeps_its_spikes(tmp_path):
    generator = random.Random(0)
    values = [generator.random() for _ in range(50_000)]
    values[31_234], values[777] = 40.0, -40.0
    page, data = write(tmp_path / "run.html", {"loss": [Curve("train", range(50_000), values)]})
    curve = data[0]["curves"][0]
    assert len(curve["steps"]) == len(curve["values"]) == len(curve["trend"]) <= 1200
    assert len(page) < 200_000
    assert curve["values"][curve["steps"].index(31_234)] == 40.0
    assert curve["values"][curve["steps"].index(777)] == -40.0
    assert (curve["steps"][0], curve["steps"][-1]) == (0, 49_999)
    assert all(values[step] == value for step, value in zip(curve["steps"], curve["values"], strict=True))


def test_a_bucket_of_nothing_finite_keeps_its_gap():
    values = [math.nan if 400 <= i < 600 else float(i) for i in range(1000)]
    kept = thin(values, most=20)
    assert kept == sorted(set(kept))
    assert any(math.isnan(values[i]) for i in kept)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node to run JavaScript")
@pytest.mark.parametrize(
    ("low", "high"),
    [(41.00e6, 41.03e6), (1.5e6, 1.5e6 + 40), (2e-5, 2.01e-5), (1.09855, 1.0986), (-3e-6, 9e-6), (0.0, 5e9)],
)
def test_the_ticks_of_a_flat_curve_differ(low, high):
    script = files("oneshot.report.assets").joinpath("draw.js").read_text(encoding="utf-8")
    script += f"const {{ values, step }} = niceTicks({low}, {high}, 5);"
    script += (
        f"console.log(JSON.stringify([values, values.map((value) => Number(plainTick(value, step, {high}))), step]));"
    )
    result = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)
    values, shown, step = json.loads(result.stdout)
    assert len(values) >= 3
    assert shown == pytest.approx(values, rel=0, abs=step / 1000)


def test_running_mean():
    assert running_mean([2.0] * 100) == pytest.approx([2.0] * 100)
    line = [float(i) for i in range(300)]
    assert running_mean(line)[20:280] == pytest.approx(line[20:280])
    assert running_mean([1.0, math.nan, 3.0])[1] == 2.0
    assert running_mean([math.nan]) == [None]


def test_only_noise_gets_a_running_mean():
    generator = random.Random(0)
    assert is_noisy([generator.random() for _ in range(200)])
    assert not is_noisy([0.5 * (1 + math.cos(i / 100)) for i in range(200)])
    assert not is_noisy([generator.random() for _ in range(20)])


def test_curves_of_unequal_length_are_refused(tmp_path):
    with pytest.raises(ValueError, match="curve 'train' has 2 steps but 1 values"):
        write_training_report(tmp_path / "run.html", title="", groups={"": [Curve("train", [1, 2], [1.0])]}, facts={})
    assert not list(tmp_path.iterdir())
