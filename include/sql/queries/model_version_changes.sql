-- On images that two versions of the model have both labelled: which labels stayed, which were lost, which were gained?
-- :before string the older version's name
-- :after string the newer version's name
-- :since date = today-89 first day of labelling that is looked at (UTC)
-- :until date = today last day of labelling that is looked at (UTC)
WITH newest AS (
    SELECT source_bucket, source_key, model_version, labels, row_number() OVER (
        PARTITION BY source_bucket, source_key, model_version ORDER BY event_time DESC, processed_at DESC, batch_id DESC
    ) AS age
    FROM image_labels
    WHERE analysis = 'custom_labels' AND dt BETWEEN :since AND :until AND status = 'LABELLED'
),
sided AS (
    SELECT
        source_bucket, source_key, side, array_distinct(transform(filter(labels, x -> x.passes), x -> x.name)) AS names
    FROM newest
    CROSS JOIN (VALUES (1), (2)) AS sides (side)
    WHERE age = 1 AND ((side = 1 AND model_version = :before) OR (side = 2 AND model_version = :after))
),
pairs AS (
    SELECT min_by(names, side) AS was, max_by(names, side) AS is_now
    FROM sided
    GROUP BY source_bucket, source_key
    HAVING count(*) = 2
)
SELECT
    name AS label,
    count_if(contains(was, name) AND contains(is_now, name)) AS stayed,
    count_if(NOT contains(is_now, name)) AS lost,
    count_if(NOT contains(was, name)) AS gained
FROM pairs
CROSS JOIN UNNEST(array_union(was, is_now)) AS n (name)
GROUP BY name
ORDER BY lost + gained DESC, name
