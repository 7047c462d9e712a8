-- At which hours of the day (UTC) did the model label fewest images a second?
-- :since date = today-29 first day of runs that is looked at (UTC)
-- :until date = today last day of runs that is looked at (UTC)
SELECT
    hour(started_at) AS hour_of_day,
    count(*) AS runs,
    sum(labelled) AS labelled,
    round(sum(labelled) / sum(model_running_seconds), 2) AS images_per_second,
    round(1e2 * sum(utilisation * model_running_seconds)
        / nullif(sum(CASE WHEN utilisation IS NOT NULL THEN model_running_seconds END), 0), 1) AS percent_used,
    round(1e2 * sum(throttled_calls) / nullif(sum(calls), 0), 1) AS percent_throttled
FROM runs
WHERE dt BETWEEN :since AND :until AND model_running_seconds > 0
GROUP BY 1
ORDER BY images_per_second, hour_of_day
