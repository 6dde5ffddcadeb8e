"""`cockpit show` and `cockpit claims`: statistics of an experiment, and verdicts on the paper's claims."""

import json
from contextlib import closing

import typer

from cockpit.requests.shared import Database, Experiment, Json, to_read
from cockpit.text import words
from cockpit.views import claims, report_tables, tables
from engine.analysis import reports
from engine.analysis.claims import findings, left_out
from engine.store import database, queue, rows

app = typer.Typer()


@app.command("show", epilog="Example: cockpit show digits")
def show(
    experiment: Experiment,
    as_json: Json = False,
    db: Database = None,
) -> None:
    """Report for each curve where it matches dense, and its lead over random and own tickets."""
    with closing(database.reader(to_read(db))) as connection:
        status = rows.experiment(connection, queue.experiment_id(connection, experiment))
        found = reports.of(connection, experiment)
    if as_json:
        print(json.dumps(report_tables.as_json(experiment, found)))
        return
    print(f"{experiment}: {words.state(status.status)}, {status.done} of {status.runs} runs done\n")
    tables.show(report_tables.OVERVIEW, report_tables.overview(found), left=1)
    tables.say(
        "\nmatches dense: down to this level, the mean is at most one dense standard deviation below the dense mean"
    )
    compared = [(one, table) for one in found if (table := report_tables.differences(one))]
    if compared:
        tables.say(
            f"less: mean difference in percentage points [its {report_tables.INTERVAL} interval], replicates paired by"
            " seed; seeds: replicates whose difference has the sign of the mean"
        )
    for one, table in compared:
        print(f"\n{words.name(one.curve.name)}")
        tables.show(*table, keys=2)
    if lines := [*report_tables.fallen(found), *report_tables.missing(found)]:
        tables.say("\n" + "\n".join(lines))


@app.command("claims", epilog="Example: cockpit claims --json")
def claims_(as_json: Json = False, db: Database = None) -> None:
    """List the paper's main claims, each with a verdict from all recorded data and its numbers.

    docs/claims.md defines when a claim is supported, contradicted or undecided.
    """
    with closing(database.reader(to_read(db))) as connection:
        found, others = findings(connection), left_out(connection)
    if as_json:
        print(json.dumps([claims.as_json(one) for one in found]))
        return
    tables.show(claims.OVERVIEW, [[claims.verdict(one), one.claim.text] for one in found], left=2)
    for one in found:
        tables.say(f"\n{one.claim.text} ({one.claim.where}): {one.verdict}\n{claims.about(one)}")
        if one.comparisons:
            tables.show(claims.HEADINGS, claims.rows(one), left=4)
        if lines := claims.remarks(one):
            tables.say("\n".join(lines))
    if said := claims.left_out(others):
        tables.say(f"\n{said}")
