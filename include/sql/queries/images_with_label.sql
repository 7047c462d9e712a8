-- Which images show a label, and none of another one?
-- :label string the label that is looked for
-- :without string = '' images that show this label as well are left out
-- :min_confidence double = 0 least confidence of the label, 0 to 100
-- :since date = today-29 first day of labelling that is looked at (UTC)
-- :until date = today last day of labelling that is looked at (UTC)
WITH newest AS (
    SELECT *, row_number() OVER (
        PARTITION BY source_bucket, source_key ORDER BY event_time DESC, processed_at DESC, batch_id DESC
    ) AS age
    FROM image_labels
    WHERE analysis = 'custom_labels' AND dt BETWEEN :since AND :until
)
SELECT
    source_bucket, source_key, version_id, max(confidence) AS confidence, count(*) AS boxes, max(event_time) AS event_time
FROM newest
CROSS JOIN UNNEST(labels) AS l (
    name, confidence, threshold, passes, box_left, box_top, box_width, box_height, parents, attributes
)
WHERE age = 1 AND passes AND name = :label AND confidence >= :min_confidence
    AND NOT contains(transform(filter(labels, x -> x.passes), x -> x.name), :without)
GROUP BY source_bucket, source_key, version_id
ORDER BY confidence DESC, source_bucket, source_key
