-- Why could images not be labelled, how often, and which one is an example?
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
    status,
    error_code,
    count(*) AS images,
    max(processed_at) AS last_seen,
    min('s3://' || source_bucket || '/' || source_key) AS example
FROM newest
WHERE age = 1 AND status <> 'LABELLED'
GROUP BY status, error_code
ORDER BY images DESC, status, error_code
