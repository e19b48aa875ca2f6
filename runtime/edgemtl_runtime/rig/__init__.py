"""A calibrated rig of two cameras: intrinsics, extrinsics, the homography of a plane, and the YAML file with them.

The cameras are pinholes with the `plumb_bob` distortion (k1, k2, p1, p2, k3) of Brown (1966), as in OpenCV and ROS;
pixel centres are whole numbers. A point of the reference camera is one of the other by X_ir = R X_rgb + t, metres.
"""

from .camera_model import CameraModel
from .model import Rig

__all__ = ["CameraModel", "Rig"]
