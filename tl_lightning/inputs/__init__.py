"""What pretrained weights expect of an image or a text: shared by backbones and data."""

from tl_lightning.inputs.image_input import ImageInput, Reading
from tl_lightning.inputs.text_input import TOKENS, TextInput

__all__ = ["TOKENS", "ImageInput", "Reading", "TextInput"]
