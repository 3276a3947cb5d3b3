"""Relaxations, how their parameters learn, and what is derived from them."""

from __future__ import annotations

import io
import math

import pytest
import torch
from relaxed_samplers import RELAXATIONS, SPACE, sampler_of
from sampler_spaces import Decisions
from torch import Tensor

from oneshot.mix import Mix
from oneshot.samplers import (
    ArchitectureLearning,
    Concrete,
    DifferentiableSampler,
    EdgeNormalisation,
    EnsembleGumbel,
    HardGumbel,
    Moment,
    NodeSoftmax,
    Temperature,
    ZeroOne,
)

START = Moment(0, 0, 10)
every_relaxation = pytest.mark.parametrize("name", RELAXATIONS)


def gradients_of(sampler: DifferentiableSampler, mix: Mix) -> dict[str, Tensor]:
    """Of a loss that reads every weight, each by another factor."""
    loss = torch.stack([(mix[name] * torch.arange(1.0, 6.0)).sum() for name in mix]).sum()
    found = torch.autograd.grad(loss, list(sampler.parameters.values()), allow_unused=True)
    return {name: grad for name, grad in zip(sampler.parameters, found, strict=True) if grad is not None}


# Every relaxation ----------------------------------------------------------------------------------------------------


@every_relaxation
def test_a_mix_has_weights_for_every_choice_and_gradients_for_every_parameter(name: str) -> None:
    sampler = sampler_of(name)
    mix = sampler.mix(START)
    assert [(choice, len(mix[choice])) for choice in mix] == [(choice.name, 5) for choice in SPACE.choices]
    assert all(0 <= weight <= 1 for choice in mix for weight in mix.numbers(choice))
    assert gradients_of(sampler, mix).keys() == sampler.parameters.keys()
    constant = sampler.mix(START, for_weights=True)
    assert not any(constant[choice].requires_grad for choice in constant)


@every_relaxation
def test_a_mix_is_a_function_of_seed_and_step(name: str) -> None:
    torch.manual_seed(0)
    first = repr(sampler_of(name).mix(START))
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert repr(sampler_of(name).mix(START)) == first
    assert torch.equal(torch.rand(1), drawn), "the global generator was used"
    if name not in ("softmax", "sigmoid", "edges", "nodes"):
        sampler = sampler_of(name)
        assert len({repr(sampler.mix(Moment(step, 0, 10))) for step in range(8)}) == 8


@every_relaxation
def test_a_saved_state_goes_on_bit_for_bit(name: str) -> None:
    sampler, again = sampler_of(name), sampler_of(name)
    for step in range(3):
        sampler.step(gradients_of(sampler, sampler.mix(Moment(step, 0, 10))))
    file = io.BytesIO()
    torch.save(sampler.state_dict(), file)
    file.seek(0)
    assert sampler.strengths().keys() == {choice.name for choice in SPACE.choices}
    again.load_state_dict(torch.load(file, weights_only=True))
    for one in (sampler, again):
        one.step(gradients_of(one, one.mix(Moment(3, 0, 10))))
    for parameter, values in sampler.parameters.items():
        assert torch.equal(values, again.parameters[parameter])
        assert not torch.equal(values, sampler_of(name).parameters[parameter])
    assert again.derived() == sampler.derived()
    other = DifferentiableSampler(Decisions(3, 4), 0, RELAXATIONS["softmax"])
    with pytest.raises(ValueError, match="of another space or method"):
        other.load_state_dict(sampler.state_dict())


def test_parameters_without_a_gradient_decay_as_those_of_one_tensor_do() -> None:
    sampler = sampler_of("softmax", learning=ArchitectureLearning(lr=0.1, weight_decay=0.5))
    whole = torch.stack([values.detach().clone() for values in sampler.parameters.values()]).requires_grad_()
    adam = torch.optim.Adam([whole], lr=0.1, betas=(0.5, 0.999), weight_decay=0.5)
    name = SPACE.choices[2].name
    for step in range(3):
        grad = torch.zeros_like(whole)
        grad[2] = step + torch.arange(5.0)
        whole.grad = grad
        adam.step()
        sampler.step({name: grad[2]})
    torch.testing.assert_close(torch.stack(list(sampler.parameters.values())), whole, rtol=0, atol=0)


# One by one ----------------------------------------------------------------------------------------------------------


def test_gdas_draws_one_option_exactly_with_the_gradient_of_the_soft_one() -> None:
    relaxation = HardGumbel(Temperature(2.0, 2.0))
    sampler = DifferentiableSampler(SPACE, 5, relaxation)
    counts = torch.zeros(5)
    name = SPACE.choices[0].name
    with torch.no_grad():
        sampler.parameters[name].copy_(torch.tensor([0.1, 0.2, 0.4, 0.1, 0.2]).log())
    for step in range(400):
        mix = sampler.mix(Moment(step, 0, 1))
        assert sorted(mix.numbers(name)) == [0, 0, 0, 0, 1]
        counts += mix[name].detach()
    torch.testing.assert_close(counts / 400, torch.tensor([0.1, 0.2, 0.4, 0.1, 0.2]), atol=0.06, rtol=0)
    # The gradient of the parameters is that of the soft weights, whose Jacobian is (diag(p) - p p^T) / temperature.
    reading = torch.arange(5.0)
    hard = sampler.mix(START)[name]
    (found,) = torch.autograd.grad((hard * reading).sum(), sampler.parameters[name])
    generator = sampler.generator(0, "architecture")
    noise = -torch.empty(5).exponential_(generator=generator).log()
    soft = ((sampler.parameters[name].detach().log_softmax(0) + noise) / 2.0).softmax(0)
    assert int(soft.argmax()) == int(hard.argmax())
    torch.testing.assert_close(found, (torch.diag(soft) - torch.outer(soft, soft)) @ reading / 2.0)


def test_proxyless_gates_have_the_published_gradient_and_leave_the_others_likely() -> None:
    sampler = sampler_of("gates", learning=ArchitectureLearning(lr=0.1, betas=(0.0, 0.999), weight_decay=0.0))
    name = SPACE.choices[0].name
    with torch.no_grad():
        sampler.parameters[name].copy_(torch.tensor([0.3, -0.2, 0.5, 0.0, 0.1]))
    single = sampler.mix(START, for_weights=True)
    assert sorted(single.numbers(name)) == [0, 0, 0, 0, 1]
    assert not single.probed(name)
    mix = sampler.mix(START)
    active, (other,) = mix.numbers(name).index(1.0), mix.probed(name)
    gate = torch.tensor([2.0, 5.0])  # d loss / d gate of the two
    (found,) = torch.autograd.grad((mix[name][[active, other]] * gate).sum(), sampler.parameters[name])
    likely = sampler.parameters[name].detach()[[active, other]].softmax(0)
    # mix_op.py, set_arch_param_grad: sum over j of g_j p_j (delta_ij - p_i)
    expected = [sum(gate[j] * likely[j] * (float(i == j) - likely[i]) for j in range(2)) for i in range(2)]
    torch.testing.assert_close(found[[active, other]], torch.stack(expected))  # type: ignore[arg-type]
    rest = [position for position in range(5) if position not in (active, other)]
    assert (found[rest] == 0).all()
    before = sampler.strengths()[name]
    sampler.step({name: found})
    after = sampler.strengths()[name]
    torch.testing.assert_close(after[rest], before[rest])
    assert abs(float(after[active] - before[active])) > 1e-3
    assert len(sampler_of("all_gates").mix(START).probed(name)) == 4


def test_temperatures_follow_their_schedules() -> None:
    gdas = HardGumbel()
    assert [gdas.temperature(Moment(0, epoch, 240)) for epoch in (0, 239)] == pytest.approx([10.0, 0.1])
    assert gdas.temperature(Moment(0, 120, 241)) == pytest.approx(10 - 9.9 / 2)
    fbnet = Concrete(Temperature(5.0, 5.0, decay=0.045))
    assert fbnet.temperature(Moment(0, 90, 90)) == pytest.approx(5 * math.exp(-0.045 * 90))
    late = Temperature(1.0, 0.5, first_epoch=4)
    assert [late.at(Moment(0, epoch, 9)) for epoch in (0, 4, 6, 8)] == pytest.approx([1, 1, 0.75, 0.5])
    cold = DifferentiableSampler(SPACE, 0, Concrete(Temperature(1e-3, 1e-3))).mix(START)
    assert all(max(cold.numbers(name)) > 0.999 for name in cold)


def test_edges_into_a_node_compete() -> None:
    sampler = sampler_of("edges")
    mix = sampler.mix(START)
    for join in SPACE.joins:
        assert sum(sum(mix.numbers(name)) for name in join.choices) == pytest.approx(1.0)
    assert sum(sampler.strengths()["node3.from0"].tolist()) == pytest.approx(1 / 3, abs=0.01)
    with pytest.raises(ValueError, match=r"Decisions has no such nodes"):
        DifferentiableSampler(Decisions(3, 4), 0, EdgeNormalisation())


def test_operations_on_all_edges_into_a_node_compete() -> None:
    sampler = sampler_of("nodes")
    name, other = "node3.from0", "node3.from2"
    with torch.no_grad():
        sampler.parameters[name].add_(torch.tensor([0.3, -0.2, 0.5, 0.0, 2.1]))
    values = torch.stack([sampler.parameters[f"node3.from{source}"] for source in range(3)])
    shares = values.exp() / values.exp().sum()
    mix, strengths = sampler.mix(START), sampler.strengths()
    for source in range(3):
        torch.testing.assert_close(mix[f"node3.from{source}"], shares[source])
        torch.testing.assert_close(strengths[f"node3.from{source}"], shares[source].detach())
    (grad,) = torch.autograd.grad(mix[other][1], sampler.parameters[name])
    torch.testing.assert_close(grad, -(shares[0] * shares[2, 1]).detach())
    part = DifferentiableSampler(
        SPACE.restrict({"node3.from1": ["none"], "node3.from2": ["none", "skip_connect"]}), 0, NodeSoftmax()
    )
    assert sum(sum(part.mix(START).numbers(edge)) for edge in (name, other)) == pytest.approx(1.0)
    with pytest.raises(ValueError, match=r"Decisions has no such nodes"):
        DifferentiableSampler(Decisions(3, 4), 0, NodeSoftmax())


def test_an_ensemble_mixes_what_its_draws_take_with_the_gradient_of_their_soft_weights() -> None:
    sampler = DifferentiableSampler(SPACE, 5, EnsembleGumbel(3, Temperature(0.7, 0.7)))
    name, reading = SPACE.choices[0].name, torch.arange(1.0, 6.0)
    generator = sampler.generator(0, "architecture")
    values = sampler.parameters[name].detach().requires_grad_()
    noise = torch.stack([-torch.empty(5).exponential_(generator=generator).log() for _ in range(3)])
    soft = ((values.log_softmax(0) + noise) / 0.7).softmax(1)
    hard = torch.nn.functional.one_hot(soft.argmax(1), 5) + soft - soft.detach()
    taken = hard.max(0).values
    mix = sampler.mix(START)
    torch.testing.assert_close(mix[name], taken / taken.sum())
    (found,) = torch.autograd.grad((mix[name] * reading).sum(), sampler.parameters[name])
    (expected,) = torch.autograd.grad((taken / taken.sum() * reading).sum(), values)
    torch.testing.assert_close(found, expected)
    drawn = [position for position, number in enumerate(mix.numbers(name)) if number]
    assert 1 < len(drawn) <= 3
    assert mix.probed(name) == set(range(5)) - set(drawn)
    assert not sampler.mix(START, for_weights=True).probed(name)
    with pytest.raises(ValueError, match=r"num_draws must be a whole number of at least 1, got 0"):
        EnsembleGumbel(0)


def test_dirichlet_weights_have_their_mean_and_the_gradient_of_their_mean() -> None:
    sampler = sampler_of("dirichlet")
    name = SPACE.choices[0].name
    with torch.no_grad():
        sampler.parameters[name].copy_(torch.tensor([1.0, 0.0, 2.0, -0.5, 0.5]))
    concentration = torch.nn.functional.elu(sampler.parameters[name].detach()) + 1
    reading = torch.arange(5.0)
    mean, grad = torch.zeros(5), torch.zeros(5)
    for step in range(600):
        alone = {name: sampler.parameters[name]}
        weights = sampler.relaxation.mix(alone, START, sampler.generator(step, ""), False)[name]
        mean += weights.detach() / 600
        grad += torch.autograd.grad((weights * reading).sum(), sampler.parameters[name])[0] / 600
    torch.testing.assert_close(mean, concentration / concentration.sum(), atol=0.03, rtol=0)
    values = sampler.parameters[name].detach().requires_grad_()
    expected = torch.nn.functional.elu(values) + 1
    (exact,) = torch.autograd.grad((expected / expected.sum() * reading).sum(), values)
    torch.testing.assert_close(grad, exact, atol=0.08, rtol=0)


def test_fair_darts_drives_weights_from_one_half() -> None:
    sampler = sampler_of("sigmoid", regularisers={"zero_one": ZeroOne()})
    mix = sampler.mix(START)
    assert set(mix.numbers("node1.from0")) == {0.5}
    for value in sampler.parameters.values():
        value.data.fill_(math.log(4))
    loss = sampler.regularised(torch.tensor(2.0), sampler.mix(START), START)
    assert float(loss.detach()) == pytest.approx(2.0 - 10 * 0.3**2)
    absolute = ZeroOne(weight=1.0, norm="l1")(torch.tensor(2.0), sampler.mix(START), sampler.parameters, START)
    assert float(absolute.detach()) == pytest.approx(2.0 - 0.3)
