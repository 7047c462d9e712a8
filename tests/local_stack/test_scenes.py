from __future__ import annotations

import io
import random
from datetime import UTC, datetime, timedelta, timezone

import pytest
from PIL import Image, ImageChops

from local_stack import scenes
from local_stack.scenes import (
    DEMO_SEEDS,
    HELD_OUT_SEEDS,
    PRODUCTS,
    TEST_SEEDS,
    TRAINING_SEEDS,
    Scene,
    SceneObject,
    draw_scene,
    encode,
    ground_truth_label_line,
    ground_truth_line,
)

CLASS_IDS = {product: number for number, product in enumerate(PRODUCTS)}
CREATED = datetime(2026, 11, 21, 12, 0, tzinfo=timezone(timedelta(hours=2)))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_seed_gives_the_same_file_whatever_else_is_random(image_format: str) -> None:
    random.seed(1)
    first = draw_scene(DEMO_SEEDS[0])
    random.seed(2)
    second = draw_scene(DEMO_SEEDS[0])

    assert encode(first.image, image_format) == encode(second.image, image_format)
    assert first.objects == second.objects


def test_different_seeds_give_different_scenes() -> None:
    files = {encode(draw_scene(seed).image, "PNG") for seed in DEMO_SEEDS[:12]}

    assert len(files) == 12


def test_training_test_held_out_and_demo_seeds_never_meet() -> None:
    ranges = sorted((TRAINING_SEEDS, TEST_SEEDS, HELD_OUT_SEEDS, DEMO_SEEDS), key=lambda seeds: seeds.start)

    assert all(earlier.stop <= later.start for earlier, later in zip(ranges, ranges[1:], strict=False))


def test_seeds_show_every_product_and_from_none_to_three_at_a_time() -> None:
    drawn = [draw_scene(seed, size=(240, 180)).objects for seed in TRAINING_SEEDS[:80]]

    assert {len(objects) for objects in drawn} == {0, 1, 2, 3}
    assert {item.label for objects in drawn for item in objects} == set(PRODUCTS)


@pytest.mark.parametrize("size", [(480, 360), (360, 480), (200, 150), (900, 300)])
def test_boxes_lie_inside_the_scene(size: tuple[int, int]) -> None:
    for seed in DEMO_SEEDS[:8]:
        scene = draw_scene(seed, size=size, labels=("bicycle", "umbrella"))
        assert scene.image.size == size
        for item in scene.objects:
            assert item.left_px >= 0
            assert item.top_px >= 0
            assert item.width_px > 0
            assert item.height_px > 0
            assert item.left_px + item.width_px <= size[0]
            assert item.top_px + item.height_px <= size[1]


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_box_fits_what_was_drawn(product: str) -> None:
    for seed in TRAINING_SEEDS[:6]:
        scene, empty = draw_scene(seed, labels=[product]), draw_scene(seed, labels=[])
        (item,) = scene.objects

        difference = ImageChops.difference(scene.image, empty.image).split()
        strongest = ImageChops.lighter(ImageChops.lighter(difference[0], difference[1]), difference[2])
        seen = strongest.point([255 * (level > 90) for level in range(256)]).getbbox()  # more than shadow and grain

        assert seen is not None
        assert seen[0] >= item.left_px - 1
        assert seen[1] >= item.top_px - 1
        assert seen[2] <= item.left_px + item.width_px + 1
        assert seen[3] <= item.top_px + item.height_px + 1
        assert (seen[2] - seen[0]) * (seen[3] - seen[1]) > 0.5 * item.width_px * item.height_px


def test_the_caller_may_say_what_is_shown() -> None:
    assert [item.label for item in draw_scene(1, labels=("mug", "mug", "chair")).objects] == ["mug", "mug", "chair"]
    assert draw_scene(1, labels=()).objects == ()
    with pytest.raises(KeyError, match="piano"):
        draw_scene(1, labels=("piano",))


def test_a_scene_too_small_to_show_anything_says_so() -> None:
    with pytest.raises(ValueError, match="Draw a larger scene"):
        draw_scene(1, size=(2, 2), labels=("bicycle", "mug", "chair"))


def test_files_are_of_the_format_asked_for_and_of_a_size_fit_for_a_demo() -> None:
    for seed in DEMO_SEEDS[:6]:
        data = encode(draw_scene(seed).image, "JPEG")
        assert Image.open(io.BytesIO(data)).format == "JPEG"
        assert 4_000 < len(data) < 45_000


def test_a_ground_truth_line_gives_boxes_in_pixels() -> None:
    scene = Scene(Image.new("RGB", (480, 360)), (SceneObject("mug", 10, 20, 30, 40), SceneObject("chair", 5, 6, 7, 8)))

    line = ground_truth_line("s3://bucket/a b.jpg", "products", scene, CLASS_IDS, CREATED)

    assert line == {
        "source-ref": "s3://bucket/a b.jpg",
        "products": {
            "image_size": [{"width": 480, "height": 360, "depth": 3}],
            "annotations": [
                {"class_id": 3, "left": 10, "top": 20, "width": 30, "height": 40},
                {"class_id": 2, "left": 5, "top": 6, "width": 7, "height": 8},
            ],
        },
        "products-metadata": {
            "objects": [{"confidence": 1}, {"confidence": 1}],
            "class-map": {"0": "bicycle", "1": "bottle", "2": "chair", "3": "mug", "4": "umbrella"},
            "type": "groundtruth/object-detection",
            "human-annotated": "yes",
            "creation-date": "2026-11-21T10:00:00.000000",
            "job-name": "labeling-job/products",
        },
    }


def test_a_ground_truth_line_of_whole_image_labels_names_each_label_once() -> None:
    mug = SceneObject("mug", 10, 20, 30, 40)
    scene = Scene(Image.new("RGB", (480, 360)), (mug, mug, SceneObject("chair", 5, 6, 7, 8)))

    line = ground_truth_label_line("s3://bucket/a.jpg", "products", scene, CLASS_IDS, CREATED.astimezone(UTC))

    assert [key for key in line if not key.endswith("-metadata")] == ["source-ref", "products_chair", "products_mug"]
    assert line["products_mug"] == 3
    assert line["products_mug-metadata"] == {
        "confidence": 1,
        "class-name": "mug",
        "type": "groundtruth/image-classification",
        "human-annotated": "yes",
        "creation-date": "2026-11-21T10:00:00.000000",
        "job-name": "labeling-job/products_mug",
    }


def test_every_public_name_is_there() -> None:
    assert all(hasattr(scenes, name) for name in scenes.__all__)
