-- The newest result of each image and analysis, whatever became of it.
-- It has to read every day, also where a query asks for some days only: a newer result may lie in any of them. Where the size of
-- the archive makes that dear, ask image_labels for the days that are meant, as the saved queries do.
CREATE OR REPLACE VIEW latest_labels AS
SELECT
    source_bucket, source_key, version_id, etag, size_bytes, width_px, height_px, format, exif_orientation, event_time,
    processed_at, origin, run_id, batch_id, model_arn, model_version, status, error_code, error_message, label_count,
    max_confidence, labels, analysis, dt
FROM (
    SELECT *, row_number() OVER (
        PARTITION BY analysis, source_bucket, source_key ORDER BY event_time DESC, processed_at DESC, batch_id DESC
    ) AS age
    FROM image_labels
)
WHERE age = 1
