"""Batch normalisation without learned scale and shift, for supernets that are trained only to rank."""

from __future__ import annotations

from torch import nn

from oneshot.supernet import Supernet


def freeze_norms(supernet: Supernet) -> int:
    """Sets the scales of all batch normalisation in the bank to 1 and the shifts to 0, and leaves them out of the training, so
    that paths do not adapt each other's activations (Yu et al., NeurIPS workshop 2019 and TPAMI 2020: "How to train your
    super-net"). Returns how many there are.

    Running statistics need no such setting: every score is with statistics measured anew.
    """
    count = 0
    for node in supernet.bank.modules():
        if "running_mean" not in node._buffers:
            continue
        for name, value in (("weight", 1.0), ("bias", 0.0)):
            parameter = node._parameters.get(name)
            if parameter is not None:
                nn.init.constant_(parameter, value)
                parameter.requires_grad_(False)
                count += 1
    return count
