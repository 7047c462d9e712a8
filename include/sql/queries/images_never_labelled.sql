-- Which images were tried and never labelled, and what is the newest reason?
-- :since date = today-29 first day of labelling that is looked at (UTC)
-- :until date = today last day of labelling that is looked at (UTC)
WITH tried AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY source_bucket, source_key ORDER BY event_time DESC, processed_at DESC, batch_id DESC
        ) AS age,
        count(*) OVER (PARTITION BY source_bucket, source_key) AS tries,
        count_if(status = 'LABELLED') OVER (PARTITION BY source_bucket, source_key) AS labelled
    FROM image_labels
    WHERE analysis = 'custom_labels' AND dt BETWEEN :since AND :until
)
SELECT source_bucket, source_key, version_id, tries, status, error_code, error_message, processed_at
FROM tried
WHERE age = 1 AND labelled = 0
ORDER BY processed_at DESC, source_bucket, source_key
