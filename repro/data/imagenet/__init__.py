"""ImageNet and Tiny ImageNet, in folders of images."""
