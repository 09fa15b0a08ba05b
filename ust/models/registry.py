"""The architectures by name, a class each.

A class defines:

- ``inputs``, the names of its inputs;
- ``of_frames``, whether it classifies each frame instead of the clip;
- ``Config``, its settings, which the checkpoint stores to rebuild it;
- ``check``, which raises ValueError for inputs of unsupported shapes;
- optionally ``fit``, which `ust.training.train_head` calls instead of training in epochs, and
  ``Config.complete``, which returns the settings for the labels of a taxonomy.

The constructor takes the settings, the number of labels and the shapes of a clip's inputs.
"""

from torch import nn

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

ARCHITECTURES: dict[str, type[nn.Module]] = {
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
