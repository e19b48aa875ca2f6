"""Topics as cameras: images that another program publishes, by ROS 2 (`ros2`) or by Zenoh without ROS (`zenoh`).

A message's header has the capture time by the clock of the machine that stamped it, `pushed` says how it is used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ...errors import EdgemtlError
from ...messages.cameras import lens_of
from ..options import Options
from ..pushed import PushedCamera

if TYPE_CHECKING:
    from ...messages.store import CameraInfo

log = logging.getLogger("edgemtl_runtime")


def info_topic(topic: str) -> str:
    """Return the topic on which the calibration of a topic's images is published, as image_transport has it."""
    return f"{topic.removesuffix('/compressed').rpartition('/')[0]}/camera_info".lstrip("/")


class TopicCamera(PushedCamera):
    """Images of one topic; a subclass subscribes, and decodes its messages."""

    def __init__(self, name: str, uri: str, options: Options) -> None:
        super().__init__(name, uri, options)
        self.has_odd_lens = False

    def put_info(self, info: CameraInfo) -> None:
        """Take the calibration that is published next to the images; one that cannot be used is reported once."""
        try:
            self.lens = lens_of(info, self.name)
        except EdgemtlError as error:
            if not self.has_odd_lens:
                self.has_odd_lens = True
                log.warning("%s: %s; it is not used", self.label, error)
