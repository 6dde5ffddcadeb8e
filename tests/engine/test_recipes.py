"""The identity of runs."""

import pytest
from msgspec.structs import replace

from engine.recipes import Chain, Dense, RandomGlobal, Rule, Run
from tests.trainings import TRAINING

TARGET = replace(TRAINING, dataset="digits-b", optimizer="adam", learning_rate=3e-4)
CHAIN = Chain(TRAINING, Rule())
RUNS = {
    "dense": Run(Dense(1), TRAINING),
    "own": CHAIN.run(3),
    "transfer": Run(CHAIN.ticket(3), TARGET),
    "random-global": Run(RandomGlobal(3), TARGET),
    "random-local": Run(CHAIN.random("local", 3), TARGET),
    "layerwise": Chain(TRAINING, Rule(scope="layerwise", rate=0.5, rewind=0)).run(1),
}
# Results are found by these digests. A change orphans every database: raise SEMANTICS instead.
DIGESTS = {
    "dense": "5f5a11f0ee706d27f035555bbab23f6b6790df1fff6611e95a7a39872e636e98",
    "own": "dce5cabcada0717ca280302b07110427bc2c9cd7f3af4932be1e0b1566fc4f56",
    "transfer": "92f7d470bc6364857252387c9b78a06bf21f155faa4346365b378270e2b1cfef",
    "random-global": "29e7b71f7f0c1f309fed9b26a665d3efa1720b27beed8331801e5191946cb3ab",
    "random-local": "6060ba1d07889f856256914b07b611c7f9acac8e2ab8937b6aa6dc1de68e8529",
    "layerwise": "e0b66822b05b6da6d892d91d33ac5a24577b8181f1fa0d23fc6f6c9ed4f663d4",
}


@pytest.mark.parametrize("name", RUNS)
def test_digests_of_known_runs_never_change(name: str) -> None:
    assert RUNS[name].digest == DIGESTS[name]


@pytest.mark.parametrize("name", RUNS)
def test_a_run_reads_back_from_its_json(name: str) -> None:
    assert Run.from_json(RUNS[name].to_json()) == RUNS[name]


def test_a_run_of_other_semantics_is_refused() -> None:
    with pytest.raises(ValueError, match="semantics 99"):
        Run.from_json(RUNS["dense"].to_json().replace('"semantics":1', '"semantics":99'))


def test_fields_at_their_default_are_left_out_of_the_identity() -> None:
    text = RUNS["own"].to_json()
    assert "weight_decay" not in text
    assert "scope" not in text
    assert '"profile":"exact"' in text  # resolved, so always present


def test_every_setting_changes_the_identity() -> None:
    others = [
        replace(TRAINING, dataset="digits"),
        replace(TRAINING, width=0.5),
        replace(TRAINING, optimizer="adamw"),
        replace(TRAINING, learning_rate=0.2),
        replace(TRAINING, weight_decay=0.0),
        replace(TRAINING, epochs=21),
        replace(TRAINING, milestones=(10,)),
        replace(TRAINING, batch_size=512),
        replace(TRAINING, augmentation="crop"),
        replace(TRAINING, validation=0.1),
        replace(TRAINING, profile="fast"),
        replace(TRAINING, seed=1),
    ]
    rules = [
        Rule(rate=0.1),
        Rule(scope="layerwise"),
        Rule(rewind=0),
        Rule(prunable="conv+output"),
        Rule(rewinds="weights"),
        Rule(schedule="continue"),
    ]
    runs = [CHAIN.run(2), *(Chain(t, Rule()).run(2) for t in others), *(Chain(TRAINING, rule).run(2) for rule in rules)]
    assert len({run.digest for run in runs}) == len(runs)


def test_a_ticket_needs_the_run_whose_weights_give_its_mask() -> None:
    assert Run(CHAIN.ticket(3), TARGET).needs() == (CHAIN.run(0), CHAIN.run(2))
    assert Run(CHAIN.ticket(1), TARGET).needs() == (CHAIN.run(0),)
    assert Run(CHAIN.ticket(0), TARGET).needs() == (CHAIN.run(0),)
    assert Run(CHAIN.random("local", 3), TARGET).needs() == (CHAIN.run(2),)
    assert Run(CHAIN.random("local", 0), TARGET).needs() == ()
    assert Run(RandomGlobal(3), TARGET).needs() == ()
    assert CHAIN.run(0).needs() == ()


def test_the_dense_run_is_the_same_for_both_scopes() -> None:
    assert Chain(TRAINING, Rule(scope="layerwise")).run(0).digest == CHAIN.run(0).digest


def test_only_the_links_of_a_chain_give_the_next_mask() -> None:
    assert CHAIN.run(0).is_link
    assert CHAIN.run(5).is_link
    assert not Run(CHAIN.ticket(5), TARGET).is_link
    assert not Run(RandomGlobal(5), TRAINING).is_link


def test_a_rewound_run_continues_the_schedule_only_where_asked() -> None:
    continuing = Chain(TRAINING, Rule(rewind=3, schedule="continue"))
    assert CHAIN.run(4).first_epoch == 0
    assert continuing.run(4).first_epoch == 3
    assert continuing.run(0).first_epoch == 0


def test_tickets_of_level_0_are_the_same_however_their_chains_prune() -> None:
    other = Chain(TRAINING, Rule(scope="layerwise", rate=0.5))
    assert other.ticket(0) == CHAIN.ticket(0)
    assert other.random("local", 0) == CHAIN.random("local", 0)
    assert RandomGlobal.at(0, 0.5) == RandomGlobal.at(0, 0.2)
    assert CHAIN.random("preserved", 0) != CHAIN.random("local", 0)  # the kind is part of the seed
    assert Chain(TRAINING, Rule(rewind=2)).ticket(0) != CHAIN.ticket(0)
