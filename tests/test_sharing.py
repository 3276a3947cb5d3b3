"""Sharing rules: what they cut, and the gradients that they pass on."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from oneshot.sharing import KernelTransform, Pieces, Place, SharingRule, crop, leading_slice


def make_transform(sizes: Sequence[int], stored: torch.Size, spread: float = 0.3) -> KernelTransform:
    rule = KernelTransform(sizes)
    rule.prepare(stored, "conv.weight")
    with torch.no_grad():
        for matrix in rule.parameters():
            matrix.add_(spread * torch.randn(matrix.shape, generator=torch.Generator().manual_seed(len(matrix))))
    return rule.double()


def transformed(kernel: Tensor, matrices: dict[str, Tensor], size: int) -> Tensor:
    """The published transform of one ``(K, K)`` kernel, number by number: output p is the sum over q of matrix[p, q] times number
    q of the centre of the next larger kernel.
    """
    while kernel.shape[-1] > size:
        large = kernel.shape[-1]
        small = large - 2
        matrix = matrices[f"{large}to{small}"]
        centre = [kernel[row, column] for row in range(1, large - 1) for column in range(1, large - 1)]
        numbers = [sum(matrix[p, q] * number for q, number in enumerate(centre)) for p in range(small * small)]
        kernel = torch.stack([torch.as_tensor(number) for number in numbers]).view(small, small)
    return kernel


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("channels", [(4, 1), (2, 1), (3, 2)])
def test_the_kernel_transform_is_the_published_one(size: int, channels: tuple[int, int]) -> None:
    torch.manual_seed(0)
    stored = torch.randn(4, 2, 7, 7, dtype=torch.float64)
    rule = make_transform((7, 3, 5), stored.shape)
    cut = rule(stored, torch.Size((*channels, size, size)))
    assert cut.shape == (*channels, size, size)
    matrices = dict(rule.named_parameters())
    assert {name: tuple(matrix.shape) for name, matrix in matrices.items()} == {"7to5": (25, 25), "5to3": (9, 9)}
    for i, j in itertools.product(*map(range, channels)):
        torch.testing.assert_close(cut[i, j], transformed(stored[i, j], matrices, size))


@pytest.mark.parametrize("size", [3, 5, 7])
def test_the_kernel_transform_starts_as_the_centre_crop(size: int) -> None:
    stored = torch.randn(4, 1, 7, 7)
    rule = KernelTransform((3, 5, 7))
    rule.prepare(stored.shape, "conv.weight")
    border = (7 - size) // 2
    expected = stored[:3, :, border : 7 - border, border : 7 - border]
    assert torch.equal(rule(stored, torch.Size((3, 1, size, size))), expected)


@pytest.mark.parametrize(("size", "used"), [(7, set()), (5, {"7to5"}), (3, {"7to5", "5to3"})])
def test_gradients_reach_the_matrices_of_the_chain_only(size: int, used: set[str]) -> None:
    stored = torch.randn(4, 1, 7, 7, dtype=torch.float64, requires_grad=True)
    rule = make_transform((3, 5, 7), stored.shape)
    rule(stored, torch.Size((3, 1, size, size))).square().sum().backward()
    assert {name for name, matrix in rule.named_parameters() if matrix.grad is not None} == used
    assert all(matrix.grad.any() for matrix in rule.parameters() if matrix.grad is not None)
    inside = torch.zeros(4, 1, 7, 7, dtype=torch.bool)
    border = 0 if size == 7 else 1  # the outermost ring is used by the largest kernel only
    inside[:3, :, border : 7 - border, border : 7 - border] = True
    assert torch.equal(stored.grad != 0, inside)


@pytest.mark.parametrize("size", [3, 5])
def test_gradients_of_the_kernel_transform_are_right(size: int) -> None:
    stored = torch.randn(3, 1, 7, 7, dtype=torch.float64, requires_grad=True)
    rule = make_transform((3, 5, 7), stored.shape)

    def cut(stored: Tensor, *matrices: Tensor) -> Tensor:
        tensors = dict(zip((name for name, _ in rule.named_parameters()), matrices, strict=True))
        return torch.func.functional_call(rule, tensors, (stored, torch.Size((2, 1, size, size))))

    assert torch.autograd.gradcheck(cut, (stored, *rule.parameters()))


def test_the_kernel_transform_keeps_the_memory_format() -> None:
    stored = torch.randn(4, 1, 7, 7)
    rule = KernelTransform((3, 5, 7))
    rule.prepare(stored.shape, "conv.weight")
    for layout, strides in ((torch.contiguous_format, (9, 9, 3, 1)), (torch.channels_last, (9, 1, 3, 1))):
        in_layout = torch.empty_like(stored, memory_format=layout).copy_(stored)
        cut = rule(in_layout, torch.Size((3, 1, 3, 3)))
        assert cut.stride() == strides
        assert torch.equal(cut, stored[:3, :, 2:5, 2:5])


def test_the_kernel_transform_refuses_other_sizes() -> None:
    rule = KernelTransform((3, 5))
    with pytest.raises(ValueError, match=r"stage1.conv is 7 wide, but the kernel sizes of its transform are \[3, 5\]"):
        rule.prepare(torch.Size((4, 1, 7, 7)), "stage1.conv")
    rule.prepare(torch.Size((4, 1, 5, 5)), "stage1.conv")
    with pytest.raises(ValueError, match=r"the kernel sizes of this transform are \[3, 5\], not 1"):
        rule(torch.randn(4, 1, 5, 5), torch.Size((4, 1, 1, 1)))


def test_the_kernel_transform_of_a_part_of_the_sizes_is_that_of_the_same_kernels() -> None:
    part = make_transform((3, 5, 7), torch.Size((4, 1, 5, 5)))
    assert [name for name, _ in part.named_parameters()] == ["5to3"]
    stored = torch.randn(4, 1, 5, 5, dtype=torch.float64)
    expected = make_transform((3, 5), torch.Size((4, 1, 5, 5)))(stored, torch.Size((2, 1, 3, 3)))
    assert torch.equal(part(stored, torch.Size((2, 1, 3, 3))), expected)


@pytest.mark.parametrize(
    ("stored", "shape", "expected"),
    [
        ((6,), (4,), (slice(4),)),
        ((6, 5), (4, 2), (slice(4), slice(2))),
        ((6, 5), (6, 2), (slice(6), slice(2))),
        ((6, 5, 7), (4, 5, 3), (slice(4), slice(5), slice(2, 5))),
        ((6, 5, 7, 5), (4, 2, 3, 5), (slice(4), slice(2), slice(2, 5), slice(5))),
        ((6, 5, 7, 5), (6, 5, 5, 1), (slice(6), slice(5), slice(1, 6), slice(2, 3))),
    ],
)
@pytest.mark.parametrize("cut", [crop, SharingRule()], ids=["crop", "SharingRule"])
def test_convolutions_are_cut_to_leading_channels_and_the_centre_of_the_kernel(
    cut: SharingRule, stored: tuple[int, ...], shape: tuple[int, ...], expected: tuple[slice, ...]
) -> None:
    values = torch.randn(20, *stored, dtype=torch.float64)[7].requires_grad_()  # not at the start of its memory
    result = cut(values, torch.Size(shape))
    assert torch.equal(result, values[expected])
    weights = torch.randn(shape, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((result * weights).sum(), values)
    (expected_gradient,) = torch.autograd.grad((values[expected] * weights).sum(), values)
    assert torch.equal(gradient, expected_gradient)
    assert result.untyped_storage().data_ptr() == values.untyped_storage().data_ptr()


def test_a_leading_slice_leads_in_every_dimension() -> None:
    stored = torch.randn(6, 5, 7).transpose(0, 2)
    assert torch.equal(leading_slice(stored, torch.Size((3, 5, 2))), stored[:3, :, :2])


def test_a_slice_of_statistics_is_updated_in_place() -> None:
    statistics = torch.zeros(6)
    nn.functional.batch_norm(
        torch.randn(3, 4), leading_slice(statistics, torch.Size((4,))), torch.ones(4), training=True, momentum=0.5
    )
    assert statistics[:4].all()
    assert not statistics[4:].any()


def test_pieces_are_cut_and_put_back() -> None:
    rule = Pieces({0: {4: [(0, 2), (3, 2)]}})
    stored = torch.arange(12.0).view(6, 2)
    assert torch.equal(rule(stored, torch.Size((4, 1))), stored[[0, 1, 3, 4], :1])
    statistics = torch.arange(6.0)
    values = rule(statistics, torch.Size((4,)))
    rule.write(statistics, values + 10)
    assert statistics.tolist() == [10, 11, 2, 13, 14, 5]


@pytest.mark.parametrize(
    ("place", "kept", "order"),
    [
        (Place(0), [0, 1, 2, 3], [4, 5, 0, 1, 2, 3, 10, 11, 6, 7, 8, 9]),
        (Place(0, 2), [0, 1, 6, 7], [2, 3, 4, 5, 0, 1, 8, 9, 10, 11, 6, 7]),
        (Place(0, 1, 3, 9), [0, 1, 2, 3, 4, 9, 10, 11], [0, 1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11]),
    ],
    ids=["alone", "twice", "beside others"],
)
def test_units_keep_their_place(place: Place, kept: list[int], order: list[int]) -> None:
    units = 6 if place == Place(0) else 3
    left = place.pieces(12, units, 2 if units == 6 else 1)
    assert [entry for start, length in left for entry in range(start, start + length)] == kept
    assert all(start + length < other for (start, length), (other, _) in itertools.pairwise(left))
    moved = torch.tensor([2, 0, 1, 5, 3, 4] if units == 6 else [1, 2, 0])
    assert place.reordered(torch.arange(12), moved).tolist() == order
