"""Image data: where it comes from, how it is split and stored, and how a batch is augmented and normalised."""

from oneshot.data.arrays import ArraySource
from oneshot.data.augmentation import Augmentation, augment
from oneshot.data.file_images import FileImages
from oneshot.data.image_data import ImageData, to_image_data
from oneshot.data.images import Images, ImageSource, TensorImages
from oneshot.data.options import DataOptions
from oneshot.data.preparation import prepare
from oneshot.data.record import MAY_MOVE, Recorded, SplitRecord
from oneshot.data.source_digits import digits
from oneshot.data.source_folder import FileSource, image_folder
from oneshot.data.source_timm import timm_dataset
from oneshot.data.source_torchvision import torchvision_dataset

__all__ = [
    "MAY_MOVE",
    "ArraySource",
    "Augmentation",
    "DataOptions",
    "FileImages",
    "FileSource",
    "ImageData",
    "ImageSource",
    "Images",
    "Recorded",
    "SplitRecord",
    "TensorImages",
    "augment",
    "digits",
    "image_folder",
    "prepare",
    "timm_dataset",
    "to_image_data",
    "torchvision_dataset",
]
