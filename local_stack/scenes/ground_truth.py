"""Lines of a Ground Truth manifest, the file that tells Custom Labels what is on its training images.

https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/md-create-manifest-file-object-detection.html
https://docs.aws.amazon.com/rekognition/latest/customlabels-dg/md-create-manifest-file-classification.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from local_stack.scenes.scene import Scene


def ground_truth_line(
    source_ref: str, job_name: str, scene: Scene, class_ids: Mapping[str, int], created: datetime
) -> dict[str, Any]:
    """The manifest line (one JSON object) of a scene with its bounding boxes, in pixels.

    `source_ref` is the image's S3 URI, `class_ids` numbers every label of the dataset, `created` is an aware time.
    Raises KeyError for an object whose label has no number.
    """
    return {
        "source-ref": source_ref,
        job_name: {
            "image_size": [{"width": scene.image.width, "height": scene.image.height, "depth": 3}],
            "annotations": [
                {
                    "class_id": class_ids[item.label],
                    "left": item.left_px,
                    "top": item.top_px,
                    "width": item.width_px,
                    "height": item.height_px,
                }
                for item in scene.objects
            ],
        },
        f"{job_name}-metadata": {
            "objects": [{"confidence": 1} for _ in scene.objects],
            "class-map": {str(number): label for label, number in class_ids.items()},
            **_provenance("object-detection", job_name, created),
        },
    }


def ground_truth_label_line(
    source_ref: str, job_name: str, scene: Scene, class_ids: Mapping[str, int], created: datetime
) -> dict[str, Any]:
    """The manifest line of a scene with whole-image labels: one pair of attributes for each label that is on it."""
    line: dict[str, Any] = {"source-ref": source_ref}
    for label in sorted({item.label for item in scene.objects}):
        attribute = f"{job_name}_{label}"
        line[attribute] = class_ids[label]
        line[f"{attribute}-metadata"] = {
            "confidence": 1,
            "class-name": label,
            **_provenance("image-classification", attribute, created),
        }
    return line


def _provenance(task: str, job_name: str, created: datetime) -> dict[str, str]:
    return {
        "type": f"groundtruth/{task}",
        "human-annotated": "yes",
        "creation-date": created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "job-name": f"labeling-job/{job_name}",
    }
