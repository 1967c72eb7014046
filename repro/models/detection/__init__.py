"""Faster R-CNN on the bodies of classification nets.

Boxes are (n, 4) corners x0, y0, x1, y1 in pixels of the scaled image, from 0 to its width and height. Classes of region
heads count from 1; 0 is background. Sources: appendix A and B of the first paper; "[32]" is its reference to Faster
R-CNN, and "MSRA's release" is ShaoqingRen/faster_rcnn.
"""
