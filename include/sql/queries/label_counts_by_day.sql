-- How many images showed each label, by the day on which they were labelled?
-- :label string = '' only this label
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
    dt,
    name AS label,
    count(DISTINCT source_bucket || '/' || source_key) AS images,
    count(*) AS boxes,
    round(avg(confidence), 1) AS average_confidence
FROM newest
CROSS JOIN UNNEST(labels) AS l (
    name, confidence, threshold, passes, box_left, box_top, box_width, box_height, parents, attributes
)
WHERE age = 1 AND passes AND (:label = '' OR name = :label)
GROUP BY dt, name
ORDER BY dt, images DESC, name
