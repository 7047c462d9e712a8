-- Which labels lie so near their threshold, on either side, that a person should look at them?
-- :label string = '' only this label
-- :margin double = 10 points of confidence from the threshold
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
    source_bucket, source_key, name AS label, confidence, threshold, passes, box_left, box_top, box_width, box_height
FROM newest
CROSS JOIN UNNEST(labels) AS l (
    name, confidence, threshold, passes, box_left, box_top, box_width, box_height, parents, attributes
)
WHERE age = 1 AND abs(confidence - threshold) <= :margin AND (:label = '' OR name = :label)
ORDER BY abs(confidence - threshold), source_bucket, source_key, name, box_left, box_top
