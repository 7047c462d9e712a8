-- What the runs of each day did and cost, by the day on which they began (UTC). Only the days that are asked for are read.
CREATE OR REPLACE VIEW cost_by_day AS
SELECT
    dt,
    count(*) AS runs,
    sum(images) AS images,
    sum(labelled) AS labelled,
    sum(rejected + missing + failed) AS not_labelled,
    sum(model_running_seconds) / 60 AS model_minutes,
    sum(cost_usd) AS cost_usd,
    1e3 * sum(cost_usd) / nullif(sum(labelled), 0) AS cost_usd_per_thousand_images
FROM runs
GROUP BY dt
