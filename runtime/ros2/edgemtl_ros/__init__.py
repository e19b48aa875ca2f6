"""A bundle of edgemtl as a ROS 2 node."""
