"""Small made-up candidates and networks for the report tests, and what reads a page back."""

import random
from html.parser import HTMLParser

from oneshot.report import Block, Candidate

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\x00\ud800"


class Elements(HTMLParser):
    """Collects the elements and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def plain(page: str) -> str:
    return Elements(page).text.replace("\u00a0", " ")


def make_candidates(count: int, seed: int) -> list[Candidate]:
    generator = random.Random(seed)
    candidates = []
    for _ in range(count):
        depth = generator.choice([2, 3])
        arch: dict[str, int | float | str | bool] = {"resolution": 32, "stage1.depth": depth}
        for block in range(1, depth + 1):
            arch[f"stage1.block{block}.kernel"] = generator.choice([3, 5, 7])
        arch["stage1.squeeze"] = generator.random() < 0.5
        macs = generator.randrange(1_000_000, 7_000_000)
        accuracy = min(1.0, 0.6 + macs / 4e7 + generator.gauss(0, 0.01))
        latency = None if generator.random() < 0.1 else macs / 1e6 + generator.random()
        candidates.append(Candidate(arch, accuracy, 2 - accuracy, macs, macs // 3, latency))
    return candidates


def make_blocks(count: int = 5) -> list[Block]:
    blocks = [Block("stem", "ConvNormAct", {}, (3, 32, 32), (16, 16, 16), 110_592, 432)]
    for number in range(1, count - 1):
        options: dict[str, int | float | str | bool] = {"kernel": 5, "expand": 4, "squeeze": number % 2 == 0}
        name = f"stage{(number + 3) // 4}.block{number}"
        blocks.append(Block(name, "InvertedResidual", options, (16, 16, 16), (16, 16, 16), 1_000_000 * number, 5_000))
    return [*blocks, Block("head", "Linear", {}, (16,), (10,), 160, 170)]
