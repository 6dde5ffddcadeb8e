"""Presets, the paper's and other experiments by name, and scales that reduce them. No torch.

A preset is the options of one experiment (of `engine.plan.defining.define`, whose defaults are the paper's), or a list
of presets, each an experiment of its own name.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import msgspec

from engine.errors import InputError, OptionName, chosen, concerning, unknown
from engine.models import catalog as models
from engine.plan.definitions import Definition
from engine.plan.options import OPTIONS, SCALES, SIZES

SCALE = OptionName("scale")
SMALL = ("svhn", "fashion-mnist", "cifar10", "cifar100")
LARGE = ("imagenet", "places365")
ON_LARGE = (*LARGE, "cifar100", "cifar10")
AT_INIT = ("magnitude", "snip", "grasp", "synflow", "random")
INFERRED = (
    "The sources are an inference: the paper evaluated only tickets from larger sets on ImageNet and Places365, and"
    " compares CIFAR-10 with CIFAR-100 tickets in figure 3e. Change them by naming others."
)


class Preset(msgspec.Struct, frozen=True):
    """A named experiment, or several: then `members` are their names, and `options` is empty."""

    summary: str
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    members: tuple[str, ...] = ()
    note: str = ""


class Scale(msgspec.Struct, frozen=True):
    """A reduction of experiments: `options` are changed, and `name` is appended to theirs."""

    name: str
    options: Mapping[str, Any]

    def of(self, name: str) -> str:
        """The name of the reduced experiment."""
        return f"{name}@{self.name}"


def _transfers() -> Iterator[tuple[str, Preset]]:
    """The panels of figures 3 and 4, and variants of these without the large sources."""
    for figure, model in (("fig3", "vgg19"), ("fig4", "resnet50")):
        for panel, target in zip("abcdef", SMALL + LARGE, strict=True):
            name, what = f"{figure}{panel}", {"target": [target], "model": model}
            if target in LARGE:
                summary = f"{model}: tickets of four sources trained on {target}"
                yield name, Preset(summary, {"source": list(ON_LARGE), **what}, note=INFERRED)
            else:
                summary = f"{model}: tickets of six sources trained on {target}"
                yield name, Preset(summary, {"source": list(SMALL + LARGE), **what})
                yield f"{name}-four", Preset(f"{name} without the large sources", {"source": list(SMALL), **what})


_CIFAR10 = {"source": ["cifar10"], "model": "vgg19"}
_SCOPES = {"scope": ["global", "layerwise"]}
_HALVES = {"source": ["cifar10-a", "cifar10-b"], "target": ["cifar10-b"]}
_OPTIMIZERS = {"optimizer": ["sgd", "adam"]}
_DIGITS = {
    "source": ["digits-a"],
    "target": ["digits-b"],
    "model": "vgg-digits",
    "levels": 18,  # 98 % pruned, where winning and random tickets differ clearly
    "evaluate": "0,6,12,15,18",
    "replicates": 2,
    "profile": "exact",  # so that all users train the same runs
}
_FIGURES = {
    "fig1a": Preset("vgg19 on cifar10: global and layerwise pruning, random tickets", {**_CIFAR10, **_SCOPES}),
    "fig1b": Preset("the chains of fig1a, layer by layer", {**_CIFAR10, **_SCOPES, "random": ["none"]}),
    "fig2a": Preset("vgg19: tickets of both halves of cifar10 trained on one", {**_HALVES, "model": "vgg19"}),
    "fig2b": Preset("resnet50: tickets of both halves of cifar10 trained on one", {**_HALVES, "model": "resnet50"}),
    **dict(_transfers()),
    "fig5a": Preset(
        "vgg19 on cifar10: tickets of SGD and Adam trained with SGD",
        {**_CIFAR10, **_OPTIMIZERS, "target_optimizer": ["sgd"]},
    ),
    "fig5b": Preset(
        "vgg19 on cifar10: tickets of SGD and Adam trained with Adam",
        {**_CIFAR10, **_OPTIMIZERS, "target_optimizer": ["adam"]},
    ),
    "figA1": Preset(
        "vgg19 on cifar10: random tickets of three kinds of masks",
        {**_CIFAR10, "random": ["preserved", "local", "global"]},
    ),
}


# Frankle and Carbin 2019, section 2 and appendices F and G: 784-300-100-10 units, 55,000 images of MNIST, 50,000
# iterations. Tickets are rewound to the initialisation and compared with the same masks over fresh weights.
_LENET300 = {
    "source": ["mnist"],
    "model": "lenet-300-100",
    "scope": ["layerwise"],
    "prune_rate": "0.2,output=0.1",
    "rewind": 0,
    "random": ["preserved"],
    "levels": 24,
    "replicates": 5,
    "optimizer": ["adam"],
    "learning_rate": 1.2e-3,
    "weight_decay": 0.0,
    "batch_size": 60,
    "epochs": 55,
    "validation": 1 / 12,
    "augmentation": "none",
}
_RESNET20 = {"source": ["cifar10"], "model": "resnet20", "random": ["none"]}
_RETRAINED = {
    "rewind": "weights and schedule rewound",
    "lr-rewind": "final weights, the schedule rewound",
    "finetune": "final weights at the last learning rate",
}
_AT_INIT = {name: {**_RESNET20, "prune_at": "init", "criterion": name} for name in AT_INIT}
_OTHERS = {
    "lenet300-mnist": Preset("LeNet-300-100 on MNIST, as Frankle and Carbin 2019 (figures 1 and 3)", _LENET300),
    **{
        f"renda-{name}": Preset(
            f"resnet20 on cifar10: {summary} (Renda et al. 2020)",
            {**_RESNET20, "retrain": name, "schedule": "continue"},
        )
        for name, summary in _RETRAINED.items()
    },
    "renda": Preset("the three ways of retraining", members=tuple(f"renda-{name}" for name in _RETRAINED)),
    **{
        f"init-{name}": Preset(f"resnet20 on cifar10: pruned at initialisation by {name}", options)
        for name, options in _AT_INIT.items()
    },
    "init-criteria": Preset("five criteria at initialisation", members=tuple(f"init-{name}" for name in AT_INIT)),
}


def _without_large() -> tuple[str, ...]:
    return tuple(name for name, one in _FIGURES.items() if not set(LARGE) & set(one.options["source"]))


# Stability of tickets rewound to the start and to an early epoch (Frankle et al. 2020).
_CONNECTED = {"source": ["cifar10"], "model": "resnet20", "random": ["none"], "connect": 31}
_INSTABILITY = {
    "instability-start": Preset(
        "resnet20 on cifar10: error barriers of tickets rewound to the start", {**_CONNECTED, "rewind": 0}
    ),
    "instability-rewound": Preset("the same of tickets rewound to the end of epoch 1", {**_CONNECTED, "rewind": 1}),
}

PRESETS: Mapping[str, Preset] = {
    "digits": Preset("the demonstration: one half of scikit-learn's digits to the other", _DIGITS),
    **_FIGURES,
    **_OTHERS,
    **_INSTABILITY,
    "instability": Preset("error barriers of tickets rewound to the start and to epoch 1", members=tuple(_INSTABILITY)),
    "paper-small": Preset("all that needs neither ImageNet nor Places365", members=_without_large()),
    "paper": Preset(
        "every experiment of the paper", members=tuple(name for name in _FIGURES if not name.endswith("-four"))
    ),
}


def named(name: str) -> str:
    """The name of the preset called `name`, in upper or lower case. Raises InputError for an unknown one."""
    with concerning("preset"):
        return chosen("preset", name, PRESETS)


def find(name: str) -> Preset:
    """The preset called `name`. Raises InputError for an unknown one."""
    return PRESETS[named(name)]


def options(name: str) -> Mapping[str, Any]:
    """The options of a preset of one experiment. Raises InputError for an unknown preset or one of several."""
    preset = find(name)
    if preset.members:
        raise InputError(
            f"preset {name!r} is {len(preset.members)} experiments: name one of {', '.join(preset.members)}"
        )
    return preset.options


def members(name: str, given: Collection[str] = ()) -> tuple[str, ...]:
    """The names of a list's presets, or of the preset itself.

    Raises InputError for an unknown name, and if an option in `given` is one in which the experiments of a list differ.
    """
    listed = find(name).members
    own = {option for member in listed for option in PRESETS[member].options}
    for option in given:
        if option in own:
            why = f" tells the experiments of preset {name!r} apart: give it with one of {', '.join(listed)}"
            raise InputError(OptionName(option), why)
    return listed or (named(name),)


def scale(text: str) -> Scale:
    """The scale of a text: a name of `SCALES`, sizes as in `width=0.125,epochs=8`, or a name followed by sizes.

    Raises InputError for any other text.
    """
    name, _, rest = text.partition(",")
    name = name.casefold()
    if name in SCALES:
        own = _sizes(rest) if rest else {}
        return Scale(",".join([name, *_written(own)]), {**_sizes(SCALES[name]), **own})
    if "=" not in name:
        raise unknown(SCALE, name, (*SCALES, *(f"{key}=..." for key in SIZES)))
    own = _sizes(text)
    return Scale(",".join(_written(own)), own)


def _sizes(text: str) -> dict[str, Any]:
    """The options of a text such as `width=0.125,epochs=8`."""
    options: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        option = OPTIONS[SIZES[chosen(SCALE, key, SIZES)]]
        if option.name in options:
            raise InputError(SCALE, f" {text!r} gives {key} twice")
        try:
            options[option.name] = option.kind(value)
        except ValueError:
            wanted = "a whole number" if option.kind is int else "a number"
            raise InputError(SCALE, f" {key}={value} is not {wanted}") from None
    return options


def _written(sizes: Mapping[str, Any]) -> list[str]:
    """Sizes in the canonical form of names."""
    return [f"{key}={sizes[option]}" for key, option in SIZES.items() if option in sizes]


def differences(definition: Definition) -> str:
    """The sizes in which an experiment differs from the paper, as text for titles of figures; empty if in none.

    Reduced numbers of images are not listed: they are in the names of data sets.
    """
    d, paper = definition, models.find(definition.model)
    sizes = (
        (f"width {d.width:g}", d.width != OPTIONS["width"].default),
        (number(d.epochs, "epoch"), d.epochs != paper.epochs),
        (number(d.levels, "level"), d.levels != OPTIONS["levels"].default),
        (number(d.replicates, "replicate"), d.replicates != OPTIONS["replicates"].default),
        (f"batches of {d.batch_size}", d.batch_size != paper.batch_size),
    )
    return ", ".join(text for text, differs in sizes if differs)


def number(count: int, what: str) -> str:
    """A number of things as text: 1 epoch, 2 epochs."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
