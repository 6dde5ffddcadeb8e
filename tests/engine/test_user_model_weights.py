"""The weights of user models: drawn by the seed and seen by the pruner, else refused by name."""

from pathlib import Path

import pytest
import torch
from torch import nn

from engine.errors import InputError
from engine.models import nets
from tests.engine.user_models import CONV, HEAD, examine

COMPUTED = [  # ways to compute the weight of net[0], and its name then
    ("torch.nn.utils.parametrizations.weight_norm(net[0])", "'weight' of layer '0' is computed by a parametrization"),
    ("torch.nn.utils.parametrizations.spectral_norm(net[0])", "use the plain layer"),
    ("torch.nn.utils.parametrizations.orthogonal(net[3])", "'weight' of layer '3' is computed"),
    ("torch.nn.utils.weight_norm(net[3])", "'weight' of layer '3' is computed"),
    ("torch.nn.utils.spectral_norm(net[0])", "'weight' of layer '0' is computed"),
    ("torch.nn.utils.prune.l1_unstructured(net[0], 'weight', 0.5)", "by torch.nn.utils.prune, .* prune.remove first"),
    ("torch.nn.utils.prune.random_unstructured(net[3], 'bias', 2)", "'bias' of layer '3' .* prune.remove first"),
    ("torch.nn.utils.parametrize.register_parametrization(net[0], 'bias', nn.Tanh())", "'bias' of layer '0'"),
]


@pytest.mark.parametrize(("hook", "said"), COMPUTED)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_computed_weight_is_refused_by_its_name(lab: Path, hook: str, said: str) -> None:
    code = f"import torch.nn.utils.prune\ndef make(classes):\n    net = {CONV}\n    {hook}\n    return net"
    for prunable in ("conv", "conv+linear"):
        with pytest.raises(InputError, match=said):
            examine(code, prunable=prunable)


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("nn.LazyConv2d(4, 3)", "layer '0' is a LazyConv2d, .* give a Conv2d its sizes"),
        ("nn.LazyBatchNorm2d()", "layer '0' is a LazyBatchNorm2d"),
        ("nn.LazyBatchNorm2d(affine=False)", "layer '0' is a LazyBatchNorm2d"),
        ("nn.Sequential(nn.Flatten(), nn.LazyLinear(4))", "layer '0.1' is a LazyLinear"),
    ],
)
def test_a_lazy_layer_is_refused_by_its_name(lab: Path, layer: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        examine(f"def make(classes): return nn.Sequential({layer}, nn.Conv2d(1, 4, 3), " + HEAD)


WITH = """
import random
import numpy
class Extra(BASE):
    def __init__(self, *given, **named):
        super().__init__(*given, **named)
        EXTRA
    def forward(self, x):
        return USE
def make(classes):
    return nn.Sequential(Extra(GIVEN), nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))
"""


def with_extra(extra: str, use: str = "x * self.own.mean()", base: str = "nn.Module", given: str = "") -> str:
    """A model whose first layer has something more."""
    return WITH.replace("BASE", base).replace("EXTRA", extra).replace("USE", use).replace("GIVEN", given)


CONV_WITH = {"use": "super().forward(x) * self.own.mean()", "base": "nn.Conv2d", "given": "1, 1, 3, padding=1"}
RESET = "\n    def reset_parameters(self):\n        "


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (with_extra("self.own = nn.Parameter(torch.randn(1, 1, 8, 8))"), "'0.own' is the same for every seed"),
        (with_extra("self.own = nn.Parameter(torch.randn(3), requires_grad=False)"), "make it a buffer if it is fixed"),
        (with_extra("self.own = nn.Parameter(torch.randn(4))", **CONV_WITH), "'0.own' is the same for every seed"),
        (
            with_extra(f"self.own = nn.Parameter(torch.ones(4)){RESET}self.own.data.fill_(random.random())"),
            "'0.own' differs between two draws with one seed",
        ),
        (
            with_extra(
                f"self.own = nn.Parameter(torch.ones(4)){RESET}numpy.copyto(self.own.data.numpy(), "
                "numpy.random.rand(4))"
            ),
            "'0.own' differs between two draws with one seed",
        ),
        (with_extra(f"self.own = nn.Parameter(torch.ones(4)){RESET}1 / 0"), "cannot be initialised: ZeroDivisionError"),
        (with_extra("self.own = torch.randn(4, requires_grad=True)"), "uses a 4 tensor that requires a gradient"),
        (with_extra("self.own = nn.Parameter(torch.randn(1))"), "'0.own' is the same for every seed"),
        (with_extra("self.own = nn.Parameter(torch.rand(()))"), "'0.own' is the same for every seed"),
        (with_extra("self.own = nn.Parameter(torch.rand(1).repeat(4))"), "'0.own' is the same for every seed"),
        (with_extra("self.own = nn.Parameter(torch.rand(1))", **CONV_WITH), "'0.own' is the same for every seed"),
        (with_extra("self.own = nn.Parameter(torch.tensor(random.random()))"), "0.own is another each time"),
        (with_extra("self.own = nn.Parameter(torch.full((4,), random.random()))"), "0.own is another each time"),
        (
            with_extra(f"self.own = nn.Parameter(torch.ones(1)){RESET}self.own.data.fill_(random.random())"),
            "'0.own' differs between two draws with one seed",
        ),
        (with_extra("self.own = [nn.Conv2d(1, 1, 1)]", "self.own[0](x)"), "uses a 1(x1x1x1)? tensor .* nn.ModuleList"),
        (with_extra("", "x if self.training else 1 / 0"), "fails in evaluation with ZeroDivisionError"),
        (
            "class make(nn.Linear):\n    def __init__(self, classes): super().__init__(64, classes)\n"
            "    def forward(self, x): return super().forward(x.flatten(1))",
            "is itself a layer",
        ),
        (
            "class make(nn.Module):\n    def __init__(self, classes):\n        super().__init__()\n"
            f"        self.net = {CONV}\n    def forward(self, x): return self.net(x).detach()",
            "cannot be trained",
        ),
        (f"def make(classes):\n    net = {CONV}\n    net.prunable = []\n    return net", "`prunable` must list names"),
        (
            f"def make(classes):\n    net = {CONV}\n    net.prunable = [[]]\n    return net",
            "`prunable` must list names",
        ),
        (f"def make(classes):\n    return ({CONV}).to('meta')", "is on the device meta"),
        (with_extra("self.own = nn.Parameter(torch.randn(4, dtype=torch.cfloat))"), "'0.own' is the same for every"),
        (
            with_extra("", "super().forward(x.cfloat()).abs()", "nn.Conv2d", "1, 1, 3, dtype=torch.cfloat"),
            "weight '0.weight' is complex",
        ),
        (with_extra("self.register_buffer('own', torch.rand(4) * random.random())"), "0.own is another each time"),
        (
            with_extra("self.register_buffer('own', torch.tensor(numpy.random.rand(40) < 0.5), persistent=False)", "x"),
            "0.own is another each time",
        ),
        (
            with_extra("self.own = nn.Linear(2, int(numpy.random.randint(10**6)))", "x"),
            "0.own.bias is another each time",
        ),
    ],
)
def test_what_the_seed_does_not_draw_is_refused_by_its_name(lab: Path, code: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        examine(code)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "own",
    [
        "nn.Parameter(torch.ones(1))",
        "nn.Parameter(torch.tensor(0.5))",
        "nn.Parameter(torch.zeros(0))",
        "nn.Parameter(torch.full((4,), 0.1))",
        f"nn.Parameter(torch.empty(1)){RESET}nn.init.normal_(self.own)",
    ],
)
def test_a_constant_parameter_and_one_that_resets_itself_pass(lab: Path, own: str) -> None:
    reset = "; self.reset_parameters()" if RESET in own else ""
    assert examine(with_extra(f"self.own = {own.replace(RESET, reset + RESET)}", "x * self.own.sum()")).parameters


ATTENTION = """
class make(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.conv, self.attention, self.head = nn.Conv2d(1, 4, 4, 4), ATTENTION, nn.Linear(4, classes)
    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return self.head(APPLIED.mean(1))
"""
SEEN = "self.attention(tokens, tokens, tokens)[0]"


@pytest.mark.parametrize(
    ("code", "linear"),
    [
        (with_extra("self.own = nn.Parameter(torch.zeros(4))"), ["4.weight"]),
        (with_extra(f"self.own = nn.Parameter(torch.ones(4)){RESET}nn.init.normal_(self.own)"), ["4.weight"]),
        (
            with_extra(
                "self.own = nn.Parameter(torch.ones(4))\n        self.reset_parameters()"
                f"{RESET}super().reset_parameters()\n"
                "        if hasattr(self, 'own'): nn.init.normal_(self.own)",
                **CONV_WITH,
            ),
            ["4.weight"],
        ),
        (
            ATTENTION.replace("ATTENTION", "nn.MultiheadAttention(4, 2, batch_first=True)").replace("APPLIED", SEEN),
            ["attention.in_proj_weight", "attention.out_proj.weight", "head.weight"],
        ),
        (
            ATTENTION.replace("ATTENTION", "nn.MultiheadAttention(4, 2, add_bias_kv=True, kdim=3)").replace(
                "APPLIED", SEEN.replace("tokens, tokens)", "tokens[..., :3], tokens)")
            ),
            [*(f"attention.{key}_proj_weight" for key in "qkv"), "attention.out_proj.weight", "head.weight"],
        ),
        (
            ATTENTION.replace("ATTENTION", "nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)").replace(
                "APPLIED", "self.attention(tokens)"
            ),
            [
                "attention.self_attn.in_proj_weight",
                "attention.self_attn.out_proj.weight",
                "attention.linear1.weight",
                "attention.linear2.weight",
                "head.weight",
            ],
        ),
    ],
)
def test_all_weights_are_drawn_by_the_seed_and_all_linear_ones_can_be_pruned(
    lab: Path, code: str, linear: list[str]
) -> None:
    examine(code, prunable="conv+linear")
    model = nets.build("given:make", 1.0, (1, 8, 8), 10)
    named = nets.prunable(model, "conv+linear")
    assert [name for name in named if name not in nets.prunable(model)] == linear

    def drawn(stream: str, seed: int) -> dict[str, torch.Tensor]:
        nets.initialise(model, stream, seed)
        return {name: value.detach().clone() for name, value in model.named_parameters()}

    first, *others = drawn("init", 0), drawn("init", 1), drawn("random/global/1", 0)
    for name, value in first.items():
        constant = torch.equal(value, value.flatten()[0].expand_as(value))
        head = name.startswith(f"{nets.output_layer(model)}.")
        assert constant or not torch.equal(value, others[0][name]), name
        assert constant or head or not torch.equal(value, others[1][name]), name
        assert not (constant and name in named), name
    assert all(torch.equal(value, first[name]) for name, value in drawn("init", 0).items())


def test_layers_of_every_kind_are_drawn_afresh_and_the_same_again(lab: Path) -> None:
    code = """
def make(classes):
    return nn.Sequential(nn.Conv2d(1, 4, 8), nn.GroupNorm(2, 4), nn.PReLU(), nn.Flatten(),
                         nn.Linear(4, 4), nn.Linear(4, classes))
"""
    (lab / "given.py").write_text("from torch import nn\n" + code)

    def drawn(seed: int) -> dict[str, torch.Tensor]:
        model = nets.build("given:make", 1.0, (1, 8, 8), 10)
        for parameter in model.parameters():
            nn.init.constant_(parameter, 9.0)
        return dict(nets.initialise(model, "init", seed).state_dict())

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(bool((value == 9.0).any()) for value in first.values())
    assert {key for key in first if not torch.equal(first[key], other[key])} == {"0.weight", "4.weight", "5.weight"}
