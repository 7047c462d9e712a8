"""What a Custom Labels model is on a laptop: really trained on the images given, and judged on others.

Classical computer vision: rectangles around what stands out from the backdrop, histograms of oriented gradients in
them, logistic regression with a background class. It is good at drawn scenes and poor at photographs; it stands in for
the service, which it does not rival.
"""

from __future__ import annotations

from local_aws.vision.detector import Detector
from local_aws.vision.evaluation import Evaluation, LabelEvaluation, evaluate
from local_aws.vision.training import train
from local_aws.vision.values import Annotation, Box, Detection, LabelledImage, VisionError

__all__ = [
    "Annotation",
    "Box",
    "Detection",
    "Detector",
    "Evaluation",
    "LabelEvaluation",
    "LabelledImage",
    "VisionError",
    "evaluate",
    "train",
]
