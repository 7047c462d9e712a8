from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from local_aws.vision import (
    Annotation,
    Box,
    Detection,
    Detector,
    LabelledImage,
    VisionError,
    evaluate,
    train,
)
from local_stack.scenes import HELD_OUT_SEEDS, PRODUCTS, TEST_SEEDS, TRAINING_SEEDS, Scene, draw_scene, encode


def labelled(scene: Scene, *, boxes: bool = True) -> LabelledImage:
    width, height = scene.image.size
    annotations = [
        Annotation(
            item.label,
            Box(item.left_px / width, item.top_px / height, item.width_px / width, item.height_px / height)
            if boxes
            else None,
        )
        for item in scene.objects
    ]
    return LabelledImage(encode(scene.image, "JPEG"), tuple(annotations))


def scenes(seeds: range, *, boxes: bool = True) -> list[LabelledImage]:
    return [labelled(draw_scene(seed), boxes=boxes) for seed in seeds]


@pytest.fixture(scope="module")
def training_images() -> list[LabelledImage]:
    return scenes(TRAINING_SEEDS[:60])


@pytest.fixture(scope="module")
def test_images() -> list[LabelledImage]:
    return scenes(TEST_SEEDS[:40])


@pytest.fixture(scope="module")
def held_out_images() -> list[LabelledImage]:
    return scenes(HELD_OUT_SEEDS[:60])


@pytest.fixture(scope="module")
def detector(training_images: list[LabelledImage]) -> Detector:
    return train(training_images)


@pytest.fixture(scope="module")
def classifier() -> Detector:
    return train(scenes(TRAINING_SEEDS[:60], boxes=False))


@pytest.fixture(scope="module")
def answers(detector: Detector, held_out_images: list[LabelledImage]) -> list[list[Detection]]:
    return [detector.detect(image.data) for image in held_out_images]


class Canned(Detector):
    """Says what it is told to say about an image, whose bytes number it."""

    def __init__(self, kind: str, answers: list[list[Detection]]) -> None:
        object.__setattr__(self, "labels", ("mug",))
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "answers", answers)

    def detect(self, data: bytes) -> list[Detection]:
        answers: list[list[Detection]] = self.__dict__["answers"]
        return answers[data[0]]


# Accuracy on images that the model has never seen


def test_boxes_give_a_detection_model_that_finds_products_in_new_scenes(
    detector: Detector, held_out_images: list[LabelledImage]
) -> None:
    evaluation = evaluate(detector, held_out_images)

    assert detector.kind == "detection"
    assert detector.labels == PRODUCTS
    assert evaluation.average_precision is not None
    assert evaluation.average_precision > 0.92
    assert evaluation.f1 > 0.92
    assert all(label.f1 > 0.8 for label in evaluation.labels)


def test_whole_image_labels_give_a_classification_model_that_knows_new_scenes(classifier: Detector) -> None:
    images = scenes(HELD_OUT_SEEDS[:40], boxes=False)

    evaluation = evaluate(classifier, images)

    assert classifier.kind == "classification"
    assert evaluation.average_precision is None
    assert evaluation.f1 > 0.85
    for image in images[:5]:
        answer = classifier.detect(image.data)
        assert sorted(detection.label for detection in answer) == list(PRODUCTS)
        assert all(detection.box is None for detection in answer)


def test_what_passes_the_thresholds_is_mostly_exactly_what_is_on_the_scene(
    detector: Detector, test_images: list[LabelledImage], held_out_images: list[LabelledImage]
) -> None:
    threshold = {label.label: label.threshold * 100 for label in evaluate(detector, test_images).labels}

    right = sum(
        sorted(found.label for found in detector.detect(image.data) if found.confidence >= threshold[found.label])
        == sorted(annotation.label for annotation in image.annotations)
        for image in held_out_images
    )

    assert right > 0.75 * len(held_out_images)


# What a model answers


def test_answers_are_ordered_by_confidence_and_lie_inside_the_image(answers: list[list[Detection]]) -> None:
    for answer in answers:
        confidences = [detection.confidence for detection in answer]
        assert confidences == sorted(confidences, reverse=True)
        assert len(answer) <= 100
        for detection in answer:
            assert 0 < detection.confidence <= 100
            assert detection.box is not None
            assert detection.box.left >= 0
            assert detection.box.top >= 0
            assert detection.box.left + detection.box.width <= 1 + 1e-9
            assert detection.box.top + detection.box.height <= 1 + 1e-9


def test_low_confidences_and_several_labels_are_returned_as_well(answers: list[list[Detection]]) -> None:
    confidences = [detection.confidence for answer in answers for detection in answer]

    assert min(confidences) < 5
    assert max(confidences) > 95
    assert sum(20 < confidence < 95 for confidence in confidences) > 20
    assert sum(len({detection.label for detection in answer}) > 1 for answer in answers) > len(answers) / 2


def test_one_object_is_reported_once_a_label(answers: list[list[Detection]]) -> None:
    for answer in answers:
        for number, one in enumerate(answer):
            for other in answer[number + 1 :]:
                if one.label == other.label:
                    assert one.box is not None
                    assert other.box is not None
                    assert one.box.overlap(other.box) < 0.5


def test_an_empty_image_holds_nothing(detector: Detector, classifier: Detector) -> None:
    blank = encode(Image.new("RGB", (300, 200), "white"), "PNG")

    assert detector.detect(blank) == []
    assert sorted(detection.label for detection in classifier.detect(blank)) == list(PRODUCTS)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_an_image_is_turned_upright_before_it_is_analysed(detector: Detector, orientation: int) -> None:
    scene = draw_scene(HELD_OUT_SEEDS[1], labels=("bicycle",))
    as_stored = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    scene.image.transpose(as_stored[orientation]).save(buffer, "JPEG", quality=95, exif=exif)

    found = detector.detect(buffer.getvalue())[0]

    truth = labelled(scene).annotations[0].box
    assert found.label == "bicycle"
    assert found.box is not None
    assert truth is not None
    assert found.box.overlap(truth) > 0.8


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "1", "I;16"])
def test_any_colour_mode_is_read(detector: Detector, mode: str) -> None:
    image = draw_scene(HELD_OUT_SEEDS[1], labels=("bicycle",)).image
    buffer = io.BytesIO()
    (image.convert("L") if mode == "I;16" else image).convert(mode).save(buffer, "TIFF")

    assert isinstance(detector.detect(buffer.getvalue()), list)


@pytest.mark.parametrize("size", [(64, 64), (64, 1280), (4096, 205), (2000, 1500)])
def test_any_size_is_read(detector: Detector, size: tuple[int, int]) -> None:
    noise = Image.effect_noise(size, 90)

    assert len(detector.detect(encode(noise, "JPEG"))) <= 100


# Thresholds and figures


def test_no_other_threshold_has_a_better_f1_score(detector: Detector, test_images: list[LabelledImage]) -> None:
    answers = [(detector.detect(image.data), image.annotations) for image in test_images]

    def f1_from(threshold: float, label: str) -> float:
        hits = reported = wanted = 0
        for answer, notes in answers:
            truth = [note.box for note in notes if note.label == label and note.box]
            wanted += len(truth)
            for found in answer:
                if found.label == label and found.confidence >= threshold * 100 and found.box:
                    reported += 1
                    match = max(truth, key=found.box.overlap, default=None)
                    if match and found.box.overlap(match) >= 0.5:
                        hits += 1
                        truth.remove(match)
        return 2 * hits / (reported + wanted)

    for figures in evaluate(detector, test_images).labels:
        assert 0 < figures.threshold < 1
        assert f1_from(figures.threshold, figures.label) == pytest.approx(figures.f1)
        assert max(f1_from(threshold, figures.label) for threshold in np.linspace(0, 1, 201)) <= figures.f1 + 1e-9


def test_figures_of_a_known_case() -> None:
    here, there, nowhere = Box(0.1, 0.1, 0.2, 0.2), Box(0.6, 0.6, 0.2, 0.2), Box(0.1, 0.7, 0.2, 0.2)
    answers = [Detection("mug", 90.0, here), Detection("mug", 80.0, nowhere), Detection("mug", 70.0, there)]
    image = LabelledImage(b"\0", (Annotation("mug", here), Annotation("mug", there)))

    evaluation = evaluate(Canned("detection", [answers]), [image])

    (mug,) = evaluation.labels
    assert mug.number_of_testing_images == 1
    assert (mug.f1, mug.precision, mug.recall, mug.threshold) == pytest.approx((0.8, 2 / 3, 1.0, 0.35))
    assert (evaluation.f1, evaluation.precision, evaluation.recall) == (mug.f1, mug.precision, mug.recall)
    assert evaluation.average_precision == pytest.approx((1 + 2 / 3) / 2)


def test_an_object_found_twice_is_right_once() -> None:
    here, beside = Box(0.1, 0.1, 0.2, 0.2), Box(0.11, 0.1, 0.2, 0.2)
    answers = [Detection("mug", 90.0, here), Detection("mug", 60.0, beside)]

    (mug,) = evaluate(Canned("detection", [answers]), [LabelledImage(b"\0", (Annotation("mug", here),))]).labels

    assert (mug.f1, mug.precision, mug.recall, mug.threshold) == pytest.approx((1.0, 1.0, 1.0, 0.75))


def test_equal_confidences_are_cut_together() -> None:
    right = LabelledImage(b"\0", (Annotation("mug", None),))
    wrong = LabelledImage(b"\1", ())
    answers = [[Detection("mug", 50.0, None)], [Detection("mug", 50.0, None)]]

    (mug,) = evaluate(Canned("classification", answers), [right, wrong]).labels

    assert (mug.precision, mug.recall) == (0.5, 1.0)


def test_a_label_without_test_images_scores_nothing_and_a_foreign_label_is_ignored() -> None:
    image = LabelledImage(b"\0", (Annotation("piano", Box(0, 0, 1, 1)),))

    evaluation = evaluate(Canned("detection", [[]]), [image])

    assert [label.label for label in evaluation.labels] == ["mug"]
    assert (evaluation.f1, evaluation.average_precision, evaluation.labels[0].threshold) == (0.0, 0.0, 0.5)


# Training


def test_the_same_images_give_the_same_model(training_images: list[LabelledImage]) -> None:
    assert train(training_images[:15]).to_bytes() == train(training_images[:15]).to_bytes()


@pytest.mark.parametrize("kind", ["detector", "classifier"])
def test_a_model_survives_being_stored(
    kind: str, request: pytest.FixtureRequest, held_out_images: list[LabelledImage]
) -> None:
    model: Detector = request.getfixturevalue(kind)

    again = Detector.from_bytes(model.to_bytes())

    assert (again.labels, again.kind) == (model.labels, model.kind)
    assert [again.detect(i.data) for i in held_out_images[:8]] == [model.detect(i.data) for i in held_out_images[:8]]


def test_a_single_label_is_enough_for_a_detection_model() -> None:
    images = [labelled(draw_scene(seed, labels=("mug",))) for seed in TRAINING_SEEDS[:12]]
    new = labelled(draw_scene(HELD_OUT_SEEDS[0], labels=("mug",)))

    found = train(images).detect(new.data)[0]

    assert found.label == "mug"
    assert found.box is not None
    assert new.annotations[0].box is not None
    assert found.box.overlap(new.annotations[0].box) > 0.5


def test_an_image_without_a_box_for_its_label_is_left_out_of_a_detection_model() -> None:
    located = [labelled(draw_scene(seed, labels=("mug",))) for seed in TRAINING_SEEDS[:6]]
    vague = LabelledImage(located[0].data, (Annotation("cup", None),))

    assert train([*located, vague]).to_bytes() == train(located).to_bytes()


def test_careless_boxes_are_no_obstacle() -> None:
    data = encode(draw_scene(3).image, "JPEG")
    boxes = (Box(0.5, 0.5, 0.0, 0.0), Box(0.9, 0.9, 0.5, 0.5), Box(0.0, 0.0, 1.0, 1.0), Box(1.0, 1.0, 0.1, 0.1))

    model = train([LabelledImage(data, tuple(Annotation("thing", box) for box in boxes))])

    assert np.isfinite(model.weights).all()
    assert all(0 <= detection.confidence <= 100 for detection in model.detect(data))


def test_labels_that_always_come_together_can_still_be_trained() -> None:
    data = encode(draw_scene(3, labels=("mug",)).image, "JPEG")
    pair = LabelledImage(data, (Annotation("cup", None), Annotation("mug", None)))

    answer = train([pair, LabelledImage(encode(draw_scene(4, labels=()).image, "JPEG"), ())]).detect(data)

    assert sorted(detection.label for detection in answer) == ["cup", "mug"]


def test_a_dataset_without_labels_is_refused() -> None:
    with pytest.raises(VisionError, match="no labels: label its images"):
        train([LabelledImage(encode(draw_scene(0).image, "JPEG"), ())])
    with pytest.raises(VisionError, match="no labels"):
        train([])


def test_one_whole_image_label_alone_is_refused() -> None:
    image = LabelledImage(encode(draw_scene(0).image, "JPEG"), (Annotation("mug", None),))

    with pytest.raises(VisionError, match=r"one label \(mug\).*at least 2 labels"):
        train([image, image])


def test_a_training_image_that_cannot_be_decoded_is_named(training_images: list[LabelledImage]) -> None:
    broken = LabelledImage(b"not an image", training_images[0].annotations)

    with pytest.raises(VisionError, match="Training image 2: The image cannot be decoded"):
        train([training_images[0], broken])


@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_a_cut_off_file_cannot_be_analysed(detector: Detector, image_format: str) -> None:
    data = encode(draw_scene(0).image, image_format)

    with pytest.raises(VisionError, match="Use a complete JPEG or PNG file"):
        detector.detect(data[: len(data) // 2])
