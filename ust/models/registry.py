"""The architectures: a class each.

A class has ``inputs``, the names of the features it takes; ``of_frames``, whether it answers for each frame
of them; ``Config``, what of params.yaml rebuilds it; and ``check``, which refuses inputs of other shapes.
It is made of its settings, the number of labels, and the shapes of a clip's inputs.
"""

from torch import nn

from ust.models import (
    attention,
    cnn,
    cnn9,
    cnn_mn,
    cnn_vggish,
    frames,
    head,
    mobilenet,
    mobilenetv2,
)

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "cnn": cnn.CNN,
    "cnn_vggish": cnn_vggish.CNNVGGish,
    "cnn_mn": cnn_mn.CNNEmbedding,
    "frames": frames.FrameClassifier,
    "head": head.Head,
    "attention": attention.Attention,
    "mobilenet": mobilenet.TaggingMobileNet,
    "cnn9": cnn9.CNN9,
    "mobilenetv2": mobilenetv2.MobileNetV2,
}
