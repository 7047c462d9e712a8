-- Which other labels are on the images that show a label?
-- :label string the label whose company is looked for
-- :since date = today-29 first day of labelling that is looked at (UTC)
-- :until date = today last day of labelling that is looked at (UTC)
WITH newest AS (
    SELECT *, row_number() OVER (
        PARTITION BY source_bucket, source_key ORDER BY event_time DESC, processed_at DESC, batch_id DESC
    ) AS age
    FROM image_labels
    WHERE analysis = 'custom_labels' AND dt BETWEEN :since AND :until
),
shown AS (
    SELECT array_distinct(transform(filter(labels, x -> x.passes), x -> x.name)) AS names
    FROM newest
    WHERE age = 1
),
company AS (
    SELECT name, count(*) AS images
    FROM shown
    CROSS JOIN UNNEST(names) AS n (name)
    WHERE contains(names, :label)
    GROUP BY name
),
-- Each of these images shows the label itself, so its own count is the greatest.
compared AS (
    SELECT name, images, max(images) OVER () AS of_images
    FROM company
)
SELECT name AS label, images, of_images, round(1e2 * images / of_images, 1) AS percent
FROM compared
WHERE name <> :label
ORDER BY images DESC, name
