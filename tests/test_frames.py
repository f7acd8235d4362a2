"""Frames: augmentation against plain array operations, test-time conditions, decoding errors."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from reid_jax.frames import _jpeg_size, augment, corner_crops, decode_clip, evaluation_conditions, reduction
from reid_jax.sampling import WHOLE, Augmentation

ALL_AT_ONCE = Augmentation(mirror=False, side=0.85, top=0.3, left=0.8, down=-0.04, right=0.03)


def smooth(seed, height=128, width=64):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return cv2.GaussianBlur(noise, (9, 9), 3)


def encode(image, ending=".png"):
    return cv2.imencode(ending, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


def test_decoding_keeps_pixels_and_the_order_of_colours():
    images = [smooth(seed) for seed in range(3)]
    clip = decode_clip([encode(image) for image in images], slice(0, 3), 128, 64, WHOLE, "t")
    np.testing.assert_array_equal(clip, images)


def test_jpeg_frames_decode_close_to_the_image():
    image = smooth(0)
    clip = decode_clip([encode(image, ".jpg")], slice(0, 1), 128, 64, WHOLE, "t")
    assert np.abs(clip[0].astype(int) - image).mean() < 3


@pytest.mark.parametrize("augmentation, most", [(WHOLE, 1.0), (ALL_AT_ONCE, 2.0)])
@pytest.mark.parametrize(
    "shape, by", [((256, 128), 2), ((600, 201), 4), ((640, 320), 8), ((155, 81), 1), ((160, 79), 1)]
)
def test_a_jpeg_much_larger_than_wanted_is_decoded_smaller_and_shows_the_same(shape, by, augmentation, most):
    data = encode(cv2.GaussianBlur(smooth(0, *shape), (0, 0), shape[1] / 32), ".jpg")
    assert reduction(data, 64, 32) == by
    whole = augment(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB), 64, 32, augmentation)
    clip = decode_clip([data], slice(0, 1), 64, 32, augmentation, "t")
    difference = np.abs(clip[0].astype(int) - whole)
    assert difference.mean() < most if by > 1 else difference.max() == 0


def test_the_size_of_a_jpeg_is_found_behind_whatever_its_header_holds():
    image = smooth(0, 250, 130)
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 4]
    plain = encode(image, ".jpg")
    comment = b"\xff\xfe\x00\x10" + b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01ignor"
    filled = plain[:2] + 3 * b"\xff" + plain[2:]
    found = (plain, plain[:2] + comment + plain[2:], filled, cv2.imencode(".jpg", image, progressive)[1].tobytes())
    assert [_jpeg_size(data) for data in found] == [(250, 130)] * 4
    assert {_jpeg_size(data) for data in (b"", plain[:20], encode(image), b"\xff\xd8" + b"\xff" * 50)} == {(0, 0)}


def test_only_the_drawn_frames_are_decoded():
    images = [smooth(seed) for seed in range(5)]
    encoded = [b"broken", b"", encode(images[2]), encode(images[3]), b"broken"]
    np.testing.assert_array_equal(decode_clip(encoded, slice(2, 4), 128, 64, WHOLE, "t"), images[2:4])


def test_halving_and_quartering_average_the_pixels_of_a_block():
    image = smooth(1)
    for factor in (2, 4):
        height, width = 128 // factor, 64 // factor
        blocks = image.reshape(height, factor, width, factor, 3).mean((1, 3))
        assert np.abs(augment(image, height, width, WHOLE) - blocks).max() <= 0.51


def test_strong_shrinking_sees_every_pixel():
    image = np.zeros((90, 42, 3), np.uint8)
    image[::7] = 255
    shrunk = augment(image, 10, 6, WHOLE).astype(float)
    assert abs(shrunk.mean() - image.mean()) < 2
    assert shrunk.min() > 0


def test_enlarging_equals_bilinear_interpolation():
    image = smooth(2)
    rows = np.clip((np.arange(192) + 0.5) / 1.5 - 0.5, 0, 127)
    columns = np.clip((np.arange(96) + 0.5) / 1.5 - 0.5, 0, 63)
    tall = np.stack([[np.interp(rows, np.arange(128), image[:, x, c]) for c in range(3)] for x in range(64)])
    wide = np.stack([[np.interp(columns, np.arange(64), tall[:, c, y]) for c in range(3)] for y in range(192)])
    expected = wide.transpose(0, 2, 1)
    assert np.abs(augment(image, 192, 96, WHOLE) - expected).max() <= 1


@pytest.mark.parametrize("augmentation", [WHOLE, ALL_AT_ONCE])
def test_mirrored_clip_equals_flipped_frames(augmentation):
    encoded = [encode(smooth(seed)) for seed in range(3)]
    plain = decode_clip(encoded, slice(0, 3), 64, 32, augmentation, "t")
    mirrored = decode_clip(encoded, slice(0, 3), 64, 32, replace(augmentation, mirror=True), "t")
    np.testing.assert_array_equal(mirrored, plain[:, :, ::-1])
    assert not np.array_equal(mirrored, plain)


def test_translation_moves_the_content_and_repeats_the_edge():
    image = smooth(3)
    moved = augment(image, 128, 64, replace(WHOLE, down=5 / 128, right=-3 / 64))
    np.testing.assert_array_equal(moved[5:, :-3], image[:-5, 3:])
    np.testing.assert_array_equal(moved[:5, :-3], np.repeat(image[:1, 3:], 5, axis=0))
    np.testing.assert_array_equal(moved[5:, -3:], np.repeat(image[:-5, -1:], 3, axis=1))


def test_translation_moves_resized_content_by_the_same_share():
    image = smooth(4)
    moved = augment(image, 64, 32, replace(WHOLE, down=-6 / 128, right=4 / 64))
    np.testing.assert_array_equal(moved[:-3, 2:], augment(image, 64, 32, WHOLE)[3:, :-2])


def test_crop_is_the_resized_box():
    image = smooth(5)
    cropped = augment(image, 64, 32, replace(WHOLE, side=0.5, top=1.0, left=0.25))
    np.testing.assert_array_equal(cropped, image[64:, 8:40])


def test_all_frames_share_one_augmentation():
    encoded = [encode(smooth(6))] * 4
    clip = decode_clip(encoded, slice(0, 4), 64, 32, replace(ALL_AT_ONCE, mirror=True), "t")
    assert (clip == clip[:1]).all()


def test_frames_with_an_augmentation_each_are_those_of_clips_that_share_it():
    encoded = [encode(smooth(seed)) for seed in range(3)]
    each = (WHOLE, ALL_AT_ONCE, replace(WHOLE, mirror=True))
    clip = decode_clip(encoded, slice(0, 3), 64, 32, each, "t")
    alone = [decode_clip(encoded, slice(t, t + 1), 64, 32, own, "t")[0] for t, own in enumerate(each)]
    np.testing.assert_array_equal(clip, alone)


def test_extreme_augmentations_still_give_frames():
    far = Augmentation(mirror=False, side=0.001, top=1.0, left=1.0, down=-1.5, right=-1.5)
    image = smooth(7)
    np.testing.assert_array_equal(augment(image, 4, 4, far), np.broadcast_to(image[-1, -1], (4, 4, 3)))


def test_conditions_pair_each_crop_with_its_mirror_image():
    assert evaluation_conditions(1, 0.9) == (WHOLE,)
    assert evaluation_conditions(2, 0.9) == (WHOLE, replace(WHOLE, mirror=True))
    ten = evaluation_conditions(10, 0.5)
    assert len(set(ten)) == 10
    image = smooth(8)
    views = [augment(image, 64, 32, condition) for condition in ten]
    boxes = [image[32:96, 16:48], image[:64, :32], image[:64, 32:], image[64:, :32], image[64:, 32:]]
    for plain, mirrored, box in zip(views[::2], views[1::2], boxes, strict=True):
        np.testing.assert_array_equal(plain, box)
        np.testing.assert_array_equal(mirrored, box[:, ::-1])
    assert ten[2::2] == corner_crops(0.5)
    with pytest.raises(ValueError, match="conditions is 3"):
        evaluation_conditions(3, 0.9)


@pytest.mark.parametrize("kind", [(".png", []), (".jpg", []), (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])])
def test_a_truncated_frame_is_an_error_naming_tracklet_and_frame(kind):
    ending, options = kind
    whole = cv2.imencode(ending, smooth(9), options)[1].tobytes()
    # Two bytes are a JPEG's end marker: without them alone the image is still whole.
    for kept in [0, 1, 30, *range(100, len(whole), len(whole) // 20), len(whole) - 16, len(whole) - 3]:
        with pytest.raises(ValueError, match="frame 1 of tracklet 0007C1T0003"):
            decode_clip([whole, whole[:kept]], slice(0, 2), 64, 32, WHOLE, "0007C1T0003")


def test_what_is_no_image_is_an_error():
    with pytest.raises(ValueError, match="frame 0 of tracklet x"):
        decode_clip([b"\xff\xd8 hello \xff\xda \xff\xd9"], slice(0, 1), 64, 32, WHOLE, "x")


def test_fewer_frames_than_the_table_says_is_an_error():
    with pytest.raises(ValueError, match="tracklet t has 2 frames, not 3"):
        decode_clip([encode(smooth(0))] * 2, slice(1, 3), 64, 32, WHOLE, "t")


def test_colours_are_those_of_three_steps_one_after_the_other():
    image = smooth(3) // 2 + 40  # far enough from black and white that nothing is cut off
    brightness, contrast, saturation = 1.1, 0.8, 1.3
    weights = np.array([0.299, 0.587, 0.114])
    grey = (image @ weights)[..., None]
    expected = saturation * image + (1 - saturation) * grey
    expected = contrast * expected + (1 - contrast) * (expected @ weights).mean()
    expected = brightness * expected
    for mirror in (False, True):
        change = replace(WHOLE, mirror=mirror, colour=(brightness, contrast, saturation))
        ours = augment(image, 128, 64, change).astype(float)
        assert np.abs(ours - (expected[:, ::-1] if mirror else expected)).max() < 0.6  # OpenCV rounds the factors
    np.testing.assert_array_equal(augment(image, 128, 64, replace(WHOLE, colour=(1.0, 1.0, 1.0))), image)
    white = augment(image, 128, 64, replace(WHOLE, colour=(9.0, 1.0, 1.0)))
    assert white.min() == 255


def test_what_is_painted_over_keeps_its_colour():
    box = replace(WHOLE, colour=(0.5, 1.0, 1.0), erased=(0.0, 0.0, 0.5, 1.0))
    ours, plain = augment(smooth(4), 128, 64, box), augment(smooth(4), 128, 64, replace(box, colour=None))
    np.testing.assert_array_equal(ours[:64], plain[:64])
    assert ours[64:].mean() == pytest.approx(plain[64:].mean() / 2, rel=0.02)
