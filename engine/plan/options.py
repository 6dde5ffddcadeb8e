"""The options of an experiment, each declared once. No torch.

The command line, experiment files, the dashboard's forms, completion, `queue show --toml`, `queue extend` and the table
in docs/experiment-files.md come from these declarations. To add an option, declare it here, add a field to
`engine.plan.definitions.Definition`, and use that.
"""

from collections.abc import Mapping
from typing import Any, get_args

from engine.datasets.catalog import AUGMENTATIONS, FORMS, PHOTOGRAPHS, SETS
from engine.errors import Range
from engine.models.catalog import MODELS, WIDTH
from engine.plan import durations, number_lists, rates
from engine.plan.optimizers import OPTIMIZERS, SCHEDULES
from engine.plan.option import Option
from engine.pruning.criteria import CRITERIA, OF_IMAGES
from engine.recipes import (
    DEFAULT_RULE,
    DEFAULT_TRAINING,
    BatchNorm,
    Init,
    Keep,
    Profile,
    Prunable,
    PruneAt,
    Retrain,
    Rewinds,
    Schedule,
    Scope,
)
from engine.tickets.permutations import PERMUTATIONS

WHAT, TICKETS, TRAINING, OPEN = "What", "Tickets", "Training", "What the paper leaves open"
NONE = "none"  # no random ticket

# Reduced experiments: named scales, and the sizes that make up a scale, with the option of each.
SCALES = {
    "small": "width=0.125,epochs=8,levels=15,replicates=2,images=5000,batch=64",
    "tiny": "width=0.0625,epochs=4,levels=3,replicates=1,images=1000,batch=50",
}
SIZES = {
    "width": "width",
    "epochs": "epochs",
    "levels": "levels",
    "replicates": "replicates",
    "images": "images",
    "batch": "batch_size",
}


_ALL = (
    Option(
        name="preset",
        panel=WHAT,
        help="Preset whose options these override: see `cockpit presets list`",
        defines=False,
        identity=False,
    ),
    Option(
        name="name",
        panel=WHAT,
        help="The experiment's name",
        otherwise="from its contents",
        defines=False,
        identity=False,
    ),
    Option(
        name="source",
        panel=WHAT,
        data_set=True,
        help=f"Data set that tickets are found on: {', '.join((*SETS, *PHOTOGRAPHS, *FORMS))}; its half with -a or -b"
        " behind it; or a ticket file, ticket:FILE",
        several=True,
        more="Another data set to find tickets on",
    ),
    Option(
        name="target",
        panel=WHAT,
        data_set=True,
        help="Data set that tickets are trained on",
        several=True,
        otherwise="same as source",
        more="Another data set to train on",
    ),
    Option(
        name="model",
        panel=WHAT,
        help=f"The network: {', '.join(MODELS)}, or your own as package.module:factory. See `cockpit models list`",
        choices=tuple(MODELS),
        open=True,
        otherwise="by the size of the images",
    ),
    Option(
        name="width",
        panel=WHAT,
        help="Multiplier of the model's channels",
        kind=float,
        range=WIDTH,
        default=DEFAULT_TRAINING.width,
    ),
    Option(name="images", panel=WHAT, help="Use at most N training images per data set", kind=int, otherwise="all"),
    Option(name="test_images", panel=WHAT, help="Use at most N test images per data set", kind=int, otherwise="all"),
    Option(
        name="replicates",
        panel=WHAT,
        help="Seeds that each point is trained with",
        kind=int,
        range=Range(1, 1000),
        default=6,
        identity=False,
        more="Replicates of each point, more than now",
    ),
    Option(
        name="seed",
        panel=WHAT,
        help="The first replicate's seed; the next has the next",
        kind=int,
        range=Range(0, 2**62),
        default=0,
    ),
    Option(
        name="data_seed",
        panel=WHAT,
        help="The first replicate's seed of the order and augmentation of images; the next has the next",
        kind=int,
        range=Range(0, 2**62),
        otherwise="the seed",
    ),
    Option(
        name="levels",
        panel=TICKETS,
        help="Pruning iterations",
        kind=int,
        range=Range(0, 200),
        default=30,
        identity=False,
        more="Pruning iterations, more than now",
    ),
    Option(
        name="evaluate",
        panel=TICKETS,
        help="Levels trained on a target: paper (0-6, then every third), all, or a list as 0-6,9,12",
        choices=("paper", "all"),
        open=True,
        default="paper",
        identity=False,
        more="All levels trained on a target: paper, all, or a list; paper and all grow with the levels",
    ),
    Option(
        name="prune_rate",
        panel=TICKETS,
        help="Fraction of the remaining weights pruned at each level, of kinds of layers as in"
        " conv=0.2,linear=0.2,output=0.1",
        reads=rates.read,
        default=DEFAULT_RULE.rate,
        field="rate",
    ),
    Option(
        name="scope",
        panel=TICKETS,
        help="Weights compared: global, layerwise; or counts of layers by erk, uniform+",
        several=True,
        choices=get_args(Scope),
        default=(DEFAULT_RULE.scope,),
        field="scopes",
        more="Another scope: global, layerwise, erk, uniform+",
    ),
    Option(
        name="criterion",
        panel=TICKETS,
        help=f"What decides which weights stay: {', '.join(CRITERIA.built_in)}",
        choices=tuple(CRITERIA.built_in),
        door=CRITERIA,
        default=DEFAULT_RULE.criterion,
    ),
    Option(
        name="prune_at",
        panel=TICKETS,
        help="Weights that the criterion is given: those at the end of training, or at init, those rewound to",
        choices=get_args(PruneAt),
        default=DEFAULT_RULE.prune_at,
    ),
    Option(
        name="prune_batches",
        panel=TICKETS,
        help=f"Batches of training images that the criterion sees: {', '.join(OF_IMAGES)}",
        kind=int,
        range=Range(1, 1_000_000),
        default=DEFAULT_RULE.prune_batches,
    ),
    Option(
        name="rewind",
        panel=TICKETS,
        help="Epoch (5ep), or number of steps (500it), rewound to (late resetting); 0 is the start",
        reads=durations.rewind,
        otherwise="1; of imagenet and places365 3; 0 with prune-at init",
    ),
    Option(
        name="granularity",
        panel=TICKETS,
        help="What is pruned as one: weight; filter; or N:M as in 2:4, all but N of M weights along input channels",
        reads=rates.granularity,
        default=DEFAULT_RULE.granularity,
    ),
    Option(
        name="retrain",
        panel=TICKETS,
        help="A pruned network starts from: rewind, rewound weights; lr-rewind, final weights, the schedule rewound;"
        " finetune, final weights at the last learning rate",
        choices=get_args(Retrain),
        default=DEFAULT_RULE.retrain,
    ),
    Option(
        name="random",
        panel=TICKETS,
        help=f"Random tickets to compare with: {', '.join(PERMUTATIONS.built_in)}, {NONE}",
        several=True,
        choices=(*PERMUTATIONS.built_in, NONE),
        door=PERMUTATIONS,
        default=("global",),
        otherwise="global; preserved where filters or N:M are pruned",
        more=f"Another random ticket: {', '.join(PERMUTATIONS.built_in)}",
    ),
    Option(
        name="connect",
        panel=TICKETS,
        help="Train each ticket in two more orders, and evaluate N networks on the line between their ends; 0: do not",
        kind=int,
        range=Range(0, 1000),
        default=0,
        identity=False,
        more="Networks on the line between two trainings of each ticket",
    ),
    Option(
        name="keep",
        panel=TICKETS,
        help="Weights kept: needed by other runs, or final: those of every trained network, too",
        choices=get_args(Keep),
        default="needed",
        identity=False,
    ),
    Option(
        name="optimizer",
        panel=TRAINING,
        help="Optimizer on the source: sgd, adam or adamw",
        several=True,
        choices=tuple(OPTIMIZERS.built_in),
        door=OPTIMIZERS,
        otherwise="the model's",
        field="optimizers",
        more="Another optimizer on the source",
    ),
    Option(
        name="target_optimizer",
        panel=TRAINING,
        help="Optimizer on the target",
        several=True,
        choices=tuple(OPTIMIZERS.built_in),
        door=OPTIMIZERS,
        otherwise="the source's",
        field="target_optimizers",
        more="Another optimizer on the target",
    ),
    Option(
        name="learning_rate",
        panel=TRAINING,
        help="Learning rate of the first epoch",
        kind=float,
        range=Range(above=0),
        otherwise="0.1 for sgd, 0.0003 for adam and adamw",
    ),
    Option(
        name="lr_schedule",
        panel=TRAINING,
        help="Learning rate over the epochs: step (times the decay at each milestone), cosine, constant",
        choices=tuple(SCHEDULES.built_in),
        door=SCHEDULES,
        default=DEFAULT_TRAINING.lr_schedule,
    ),
    Option(
        name="milestones",
        panel=TRAINING,
        help="Epochs at which the learning rate drops, as in 80,120, or none",
        reads=number_lists.milestones,
        otherwise="the model's",
    ),
    Option(
        name="decay",
        panel=TRAINING,
        help="Factor of the learning rate at each milestone",
        kind=float,
        range=Range(above=0, below=1),
        default=DEFAULT_TRAINING.decay,
    ),
    Option(
        name="warmup",
        panel=TRAINING,
        help="Epochs (5ep) or steps (500it) in which the learning rate grows from 0 to the schedule's",
        reads=durations.read,
        default=DEFAULT_TRAINING.warmup,
    ),
    Option(
        name="momentum",
        panel=TRAINING,
        help="Momentum of sgd",
        kind=float,
        range=Range(0, below=1),
        default=DEFAULT_TRAINING.momentum,
    ),
    Option(
        name="nesterov",
        panel=TRAINING,
        help="Nesterov's form of sgd's momentum",
        kind=bool,
        default=DEFAULT_TRAINING.nesterov,
    ),
    Option(
        name="betas",
        panel=TRAINING,
        help="Decay rates of adam's and adamw's two moments, as in 0.9,0.999",
        reads=number_lists.betas,
        default=DEFAULT_TRAINING.betas,
    ),
    Option(
        name="label_smoothing",
        panel=TRAINING,
        help="Part of each label that is spread evenly over all classes",
        kind=float,
        range=Range(0, below=1),
        default=DEFAULT_TRAINING.label_smoothing,
    ),
    Option(
        name="weight_decay",
        panel=TRAINING,
        help="L2 penalty; decoupled with adamw",
        kind=float,
        range=Range(0),
        default=DEFAULT_TRAINING.weight_decay,
    ),
    Option(
        name="epochs",
        panel=TRAINING,
        help="Epochs; the milestones move along",
        kind=int,
        range=Range(1, 100_000),
        otherwise="the model's",
    ),
    Option(
        name="batch_size",
        panel=TRAINING,
        help="Images a step",
        kind=int,
        range=Range(2, 1_000_000),
        otherwise="the model's",
    ),
    Option(
        name="profile",
        panel=TRAINING,
        help="exact: float32, same bits again; fast: bfloat16",
        choices=get_args(Profile),
        otherwise="fast where the devices have bfloat16",
    ),
    Option(
        name="split",
        panel=TRAINING,
        help="Devices that each batch is split over; `cockpit work` takes the same",
        kind=int,
        default=DEFAULT_TRAINING.split,
    ),
    Option(
        name="batch_norm",
        panel=TRAINING,
        help="Over each device's part of a batch, or, on CUDA, over the whole",
        choices=get_args(BatchNorm),
        default=DEFAULT_TRAINING.batch_norm,
    ),
    Option(
        name="augmentation",
        panel=OPEN,
        help="none, crop, crop-flip, or standard: by the data set (flips unless characters)",
        choices=AUGMENTATIONS,
        default="standard",
    ),
    Option(
        name="init",
        panel=OPEN,
        help="Fresh weights: xavier or kaiming (normal), default (each layer's own), or paper (by the network)",
        choices=("paper", *get_args(Init)),
        default=DEFAULT_TRAINING.init,
    ),
    Option(
        name="reshuffle_levels",
        panel=OPEN,
        help="Order and augment images anew at each level",
        kind=bool,
        default=DEFAULT_TRAINING.reshuffle_levels,
    ),
    Option(
        name="prunable",
        panel=OPEN,
        help="conv; conv+output: the output layer too; conv+linear: every linear layer too",
        choices=get_args(Prunable),
        otherwise="the model's: conv, of nets without convolutions conv+linear",
    ),
    Option(
        name="rewinds",
        panel=OPEN,
        help="all, or weights: without batch-norm statistics",
        choices=get_args(Rewinds),
        default=DEFAULT_RULE.rewinds,
    ),
    Option(
        name="head",
        panel=OPEN,
        help="Output layer of tickets: carry, fresh (drawn anew), or auto: carried where class counts agree",
        choices=("auto", "carry", "fresh"),
        default=DEFAULT_RULE.head,
    ),
    Option(
        name="schedule",
        panel=OPEN,
        help="After rewinding: restart from epoch 0, or continue from the rewind epoch",
        choices=get_args(Schedule),
        default=DEFAULT_RULE.schedule,
    ),
    Option(
        name="validation",
        panel=OPEN,
        help="Fraction of the training set held out; accuracy is read at its best epoch, not the last",
        kind=float,
        range=Range(0, 0.5),
        default=DEFAULT_TRAINING.validation,
    ),
    Option(
        name="scale",
        panel=WHAT,
        help=f"Make it small, and say so in its name: {', '.join(SCALES)}, sizes ({', '.join(SIZES)}) as in"
        " width=0.125,epochs=8, or both as in small,replicates=3",
        defines=False,
        identity=False,
    ),
    Option(
        name="pause_after",
        panel=WHAT,
        help="Failures in a row after which it is paused; 0: never",
        kind=int,
        range=Range(0, 10**9),
        default=3,
        defines=False,
        identity=False,
    ),
)
OPTIONS: Mapping[str, Option] = {option.name: option for option in _ALL}
# The options that `engine.plan.defining.define` takes, and the field of a definition that each sets.
DEFINING = {name: option for name, option in OPTIONS.items() if option.defines}
FIELDS = {name: option.field or name for name, option in DEFINING.items() if name not in ("source", "target", "images")}


def given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that the user gave; None and an empty list stand for an option that was left out."""
    return {name: value for name, value in values.items() if value is not None and value not in ([], ())}
