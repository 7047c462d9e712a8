-- What did a thousand labelled images cost, week by week?
-- :since date = today-89 first day of runs that is looked at (UTC)
-- :until date = today last day of runs that is looked at (UTC)
SELECT
    date_trunc('week', CAST(dt AS date)) AS week,
    count(*) AS runs,
    sum(labelled) AS labelled,
    round(sum(model_running_seconds) / 60, 1) AS model_minutes,
    round(sum(cost_usd), 2) AS cost_usd,
    round(1e3 * sum(cost_usd) / nullif(sum(labelled), 0), 2) AS cost_usd_per_thousand_images
FROM runs
WHERE dt BETWEEN :since AND :until
GROUP BY 1
ORDER BY 1
