"""Random changes of training images, a whole batch at a time on its device."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cwbench.api import BatchStreams, CropFlip, ResizedCrop


def augmented(x: Tensor, augment: CropFlip | ResizedCrop | None, streams: BatchStreams) -> Tensor:
    """Return changed images, shape as ``x`` (N, C, H, W); each image has its own random numbers."""
    if augment is None:
        return x
    draws = streams.uniform(x.new_empty(len(x), 5))
    return _crop_flip(x, augment, draws) if isinstance(augment, CropFlip) else _resized_crop(x, augment, draws)


def _crop_flip(x: Tensor, augment: CropFlip, draws: Tensor) -> Tensor:
    n, channels, height, width = x.shape
    top, left = (draws[:, :2] * (2 * augment.pad + 1)).long().unsqueeze(2).unbind(1)
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    if augment.flip:
        columns = torch.where(draws[:, 2:3] < 0.5, columns.flip(1), columns)
    padded = F.pad(x, [augment.pad] * 4)
    image = torch.arange(n, device=x.device)[:, None, None, None]
    channel = torch.arange(channels, device=x.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def _resized_crop(x: Tensor, augment: ResizedCrop, draws: Tensor) -> Tensor:
    """Sample each image on the grid of its part; in coordinates from -1 to 1, so an image is 2 wide and 2 high."""
    area = augment.scale[0] + draws[:, 0] * (augment.scale[1] - augment.scale[0])
    low, high = map(math.log, augment.ratio)
    shape = (low + draws[:, 1] * (high - low)).exp()
    width, height = (area * shape).sqrt().clamp(max=1), (area / shape).sqrt().clamp(max=1)
    across, down = ((2 * draws[:, i] - 1) * (1 - side) for i, side in ((2, width), (3, height)))
    if augment.flip:
        width = torch.where(draws[:, 4] < 0.5, -width, width)
    zero = torch.zeros_like(width)
    affine = torch.stack([torch.stack([width, zero, across], 1), torch.stack([zero, height, down], 1)], 1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False).clamp(0, 1)
