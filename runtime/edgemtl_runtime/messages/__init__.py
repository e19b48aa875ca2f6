"""ROS 2 messages without ROS: the type store (`store`), and frames and results as messages (`ros`)."""
