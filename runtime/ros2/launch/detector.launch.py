"""Starts the detector and makes it active.

ros2 launch edgemtl_ros detector.launch.py bundle:=/home/robot/current rgb:=/camera/image_raw ir:=/thermal/image_raw
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

PACKAGE = "edgemtl_ros"


def generate_launch_description() -> LaunchDescription:
    """Return the node with its parameters, configured and then activated."""
    defaults = Path(get_package_share_directory(PACKAGE)) / "config" / "detector.yaml"
    arguments = {
        "bundle": ("", "the folder of a bundle, or a link to one"),
        "params": (str(defaults), "a file of parameters"),
        "namespace": ("", "the node's namespace"),
        "rgb": ("rgb/image", "the topic of the colour camera"),
        "ir": ("ir/image", "the topic of the thermal camera"),
    }
    node = LifecycleNode(
        package=PACKAGE,
        executable="detector",
        name="detector",
        namespace=LaunchConfiguration("namespace"),
        parameters=[LaunchConfiguration("params"), {"bundle": LaunchConfiguration("bundle")}],
        remappings=[(f"{name}/image", LaunchConfiguration(name)) for name in ("rgb", "ir")],
        output="screen",
    )
    configure = EmitEvent(event=_change(node, Transition.TRANSITION_CONFIGURE))
    activate = EmitEvent(event=_change(node, Transition.TRANSITION_ACTIVATE))
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=text)
                for name, (value, text) in arguments.items()
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=node, start_state="configuring", goal_state="inactive", entities=[activate]
                )
            ),
            node,
            configure,
        ]
    )


def _change(node: LifecycleNode, transition: int) -> ChangeState:
    return ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
