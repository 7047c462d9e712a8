-- Images whose newest result is no success, with the reason. It reads every day, as latest_labels does.
CREATE OR REPLACE VIEW problems AS
SELECT
    analysis, source_bucket, source_key, version_id, status, error_code, error_message, size_bytes, width_px, height_px, format,
    event_time, processed_at, dt, origin, run_id, batch_id
FROM latest_labels
WHERE status <> 'LABELLED'
