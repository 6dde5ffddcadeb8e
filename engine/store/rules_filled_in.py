"""The statements of migration 3, as released: each layer gets its rule, shared runs the layers of all rules."""

# The layers of a run that each rule counts: all if the run is pruned, else those that the rule prunes.
LAYERS_BY_RULE = """
SELECT l.run_id, k.rule, l.layer, l.name, l.weights_remaining, l.weights_total
FROM layers l JOIN runs r ON r.id = l.run_id
JOIN (SELECT 'conv' AS rule UNION ALL SELECT 'conv+output' UNION ALL SELECT 'conv+linear') k
WHERE r.level > 0 OR l.prunable = 'conv' OR k.rule IN (l.prunable, 'conv+linear')
"""
# The layers of runs with another rule than the default, which recipes omit.
OTHER_RULES = """
CREATE TEMP TABLE other_rules AS
SELECT l.rowid AS place, r.model, r.width, r.target_dataset, l.layer, l.name, l.weights_total,
       json_extract(r.recipe, '$.ticket.chain.rule.prunable') AS rule
FROM runs r JOIN layers l ON l.run_id = r.id WHERE json_extract(r.recipe, '$.ticket.chain.rule.prunable') IS NOT NULL
"""
FILLED_IN = (
    # Without the convolutions, which runs with the default rule or none recorded as well.
    """
    DELETE FROM other_rules WHERE (model, width, name) IN (
      SELECT r.model, r.width, l.name FROM runs r JOIN layers l ON l.run_id = r.id
      WHERE json_extract(r.recipe, '$.ticket.chain.rule.prunable') IS NULL AND r.ticket <> 'imported'
        AND (r.model, r.width) IN (SELECT model, width FROM other_rules))
    """,
    """
    UPDATE other_rules SET rule = 'conv+output' WHERE (model, width, name) IN (
      SELECT model, width, name FROM other_rules WHERE rule = 'conv+output')
    """,
    """
    UPDATE layers SET prunable = o.rule FROM other_rules o WHERE layers.rowid = o.place
    """,
    # Shared runs had recorded the layers of the default rule only.
    """
    INSERT INTO layers (run_id, layer, name, weights_remaining, weights_total, prunable)
    SELECT r.id, (SELECT count(*) FROM layers l WHERE l.run_id = r.id) + rank, o.name, o.weights_total, o.weights_total,
           o.rule
    FROM runs r JOIN (
      SELECT *, row_number() OVER (PARTITION BY model, width, target_dataset ORDER BY layer) - 1 AS rank FROM (
        SELECT model, width, target_dataset, name, max(layer) AS layer, max(weights_total) AS weights_total,
               max(rule) AS rule
        FROM other_rules GROUP BY model, width, target_dataset, name)
    ) o USING (model, width, target_dataset)
    WHERE r.weights_total IS NOT NULL
      AND (r.ticket = 'dense' OR (r.level = 0 AND json_extract(r.recipe, '$.ticket.kind') = 'random'))
    """,
    """
    UPDATE runs SET weights_total = n.weights, weights_remaining = n.weights FROM (
      SELECT w.run_id, sum(l.weights_total) AS weights FROM (
        SELECT p.run_id, min(CASE json_extract(e.definition, '$.prunable')
                             WHEN 'conv+linear' THEN 2 WHEN 'conv+output' THEN 1 ELSE 0 END) AS width
        FROM experiments e JOIN experiment_curves c ON c.experiment_id = e.id
        JOIN curve_points p ON p.curve_id = c.id GROUP BY p.run_id
      ) w JOIN layers_by_rule l ON l.run_id = w.run_id
        AND l.rule = CASE w.width WHEN 2 THEN 'conv+linear' WHEN 1 THEN 'conv+output' END
      GROUP BY w.run_id
    ) n WHERE n.run_id = runs.id
      AND (ticket = 'dense' OR (level = 0 AND json_extract(recipe, '$.ticket.kind') = 'random'))
    """,
    "DROP TABLE other_rules",
)
