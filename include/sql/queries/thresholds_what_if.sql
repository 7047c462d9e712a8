-- How many images would show each label if the threshold were 50, 70 or 90?
-- :label string = '' only this label
-- :since date = today-29 first day of labelling that is looked at (UTC)
-- :until date = today last day of labelling that is looked at (UTC)
WITH newest AS (
    SELECT *, row_number() OVER (
        PARTITION BY source_bucket, source_key ORDER BY event_time DESC, processed_at DESC, batch_id DESC
    ) AS age
    FROM image_labels
    WHERE analysis = 'custom_labels' AND dt BETWEEN :since AND :until
),
best AS (
    SELECT source_bucket, source_key, name, max(confidence) AS confidence, bool_or(passes) AS passes
    FROM newest
    CROSS JOIN UNNEST(labels) AS l (
        name, confidence, threshold, passes, box_left, box_top, box_width, box_height, parents, attributes
    )
    WHERE age = 1 AND (:label = '' OR name = :label)
    GROUP BY source_bucket, source_key, name
)
SELECT
    name AS label,
    count_if(passes) AS images_now,
    count_if(confidence >= 50) AS images_at_50,
    count_if(confidence >= 70) AS images_at_70,
    count_if(confidence >= 90) AS images_at_90
FROM best
GROUP BY name
ORDER BY images_now DESC, name
