"""Batches of images: standardised, padded with the median of their border."""

from __future__ import annotations

import torch

from kemr_lightning.models.transform import BatchTransform


def test_images_are_standardised_and_padded_with_their_border() -> None:
    one, two = torch.full((1, 33, 20), 0.7), torch.full((1, 10, 40), 0.2)
    one[0, 10, 10] = 0.0
    batch = BatchTransform(0.2, 0.25, 32)([one, two])
    assert batch.tensors.shape == (2, 1, 64, 64)
    assert batch.image_sizes == [(33, 20), (10, 40)]
    torch.testing.assert_close(batch.tensors[0, 0, :33, :20], (one[0] - 0.2) / 0.25)
    torch.testing.assert_close(batch.tensors[0, 0, 33:], torch.full((31, 64), 2.0))
    torch.testing.assert_close(batch.tensors[0, 0, :, 20:], torch.full((64, 44), 2.0))
    torch.testing.assert_close(batch.tensors[1, 0], torch.zeros(64, 64))


def test_padding_is_the_median_of_the_border() -> None:
    image = torch.full((1, 3, 5), 0.5)
    image[0, 0] = 0.1  # five of the sixteen pixels that the four sides list, corners twice
    image[0, 1, 2] = 0.9  # inside
    batch = BatchTransform(0.0, 1.0, 8)([image])
    assert batch.tensors.shape == (1, 1, 8, 8)
    assert batch.tensors[0, 0, 7, 7] == 0.5
    assert batch.tensors[0, 0, 1, 2] == 0.9


def test_images_of_the_right_size_are_not_padded() -> None:
    image = torch.rand(1, 64, 32)
    batch = BatchTransform(0.5, 0.25, 32)([image, image])
    assert batch.image_sizes == [(64, 32)] * 2
    torch.testing.assert_close(batch.tensors, torch.stack([(image - 0.5) / 0.25] * 2))
