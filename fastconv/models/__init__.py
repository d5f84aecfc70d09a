"""Networks that are known by name, each written as the table in its paper reads.

- ``small.py``: LeNet-5, a CNN for MNIST, a VGG for small images.
- ``resnet.py``: ResNet-20. ``mobilenet.py``: MobileNet. ``inception.py``: a small Inception.

Each function returns a `Sequential`, built for its input and ready to train: change its layers, or
copy the page and write your own.
"""

from .inception import inception
from .mobilenet import mobilenet
from .resnet import resnet20
from .small import lenet5, mnist_cnn, vgg6

__all__ = ["inception", "lenet5", "mnist_cnn", "mobilenet", "resnet20", "vgg6"]
