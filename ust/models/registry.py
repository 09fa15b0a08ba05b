"""The architectures by name; each is a subclass of `ust.models.layers.Architecture` in a file of its own."""

from ust.models import (
    attention,
    audioset,
    audioset_head,
    cnn,
    cnn9,
    cnn_mn,
    cnn_vggish,
    frames,
    head,
    mobilenet,
    mobilenetv2,
)
from ust.models.layers import Architecture

ARCHITECTURES: dict[str, type[Architecture]] = {
    "cnn": cnn.CNN,
    "cnn_vggish": cnn_vggish.CNNVGGish,
    "cnn_mn": cnn_mn.CNNEmbedding,
    "frames": frames.FrameClassifier,
    "head": head.Head,
    "attention": attention.Attention,
    "audioset": audioset.AudioSet,
    "audioset_head": audioset_head.AudioSetHead,
    "mobilenet": mobilenet.TaggingMobileNet,
    "cnn9": cnn9.CNN9,
    "mobilenetv2": mobilenetv2.MobileNetV2,
}
