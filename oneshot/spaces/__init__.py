"""Search spaces: the base class and the published ones."""

from oneshot.spaces.attentive_nas import AttentiveNAS
from oneshot.spaces.base import Make, SearchSpace
from oneshot.spaces.darts import DARTS
from oneshot.spaces.enas_macro import ENASMacro
from oneshot.spaces.enas_micro import ENASMicro
from oneshot.spaces.nasbench201 import NASBench201
from oneshot.spaces.nasbench_macro import NASBenchMacro
from oneshot.spaces.ofa import OFAMobileNetV3
from oneshot.spaces.ofa_proxyless import OFAProxyless
from oneshot.spaces.ofa_resnet50 import OFAResNet50
from oneshot.spaces.spos import SPOSShuffleNetV2
from oneshot.spaces.timm_space import NetworkSpace, TimmSpace

__all__ = [
    "DARTS",
    "AttentiveNAS",
    "ENASMacro",
    "ENASMicro",
    "Make",
    "NASBench201",
    "NASBenchMacro",
    "NetworkSpace",
    "OFAMobileNetV3",
    "OFAProxyless",
    "OFAResNet50",
    "SPOSShuffleNetV2",
    "SearchSpace",
    "TimmSpace",
]
