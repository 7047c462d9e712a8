-- One row for each label that passes, of the newest result of each image. Boxes are ratios of the image, null for labels of the
-- whole image. It reads every day, as latest_labels does.
CREATE OR REPLACE VIEW labels_flat AS
SELECT
    analysis, source_bucket, source_key, version_id, event_time, processed_at, dt, origin, model_version, width_px, height_px,
    name AS label, confidence, threshold, box_left, box_top, box_width, box_height
FROM latest_labels
CROSS JOIN UNNEST(labels) AS l (
    name, confidence, threshold, passes, box_left, box_top, box_width, box_height, parents, attributes
)
WHERE passes
