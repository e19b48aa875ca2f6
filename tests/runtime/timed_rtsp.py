"""An RTSP server of GStreamer's whose pictures tell when they were drawn; run by the system's Python.

    python3 timed_rtsp.py PORT '{"rgb": {"fps": 30, "codec": "h264"}, ...}'

Prints "ready", then serves each name as a path. Presentation times are those of drawing, as a camera's are of capture.
"""

import json
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from clockface import HEIGHT, WIDTH, Painter  # noqa: E402
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def encoder(stream):
    """Return the part of the pipeline that encodes; ``b_frames`` come between the others as an encoder orders them."""
    b_frames, key = stream.get("b_frames", 0), stream.get("key", 15)
    crf = stream.get("crf", 23)
    if stream["codec"] == "mjpeg":
        return "jpegenc quality=90 ! rtpjpegpay name=pay0 pt=26"
    if stream["codec"] == "h265":
        order = f":bframes={b_frames}:b-adapt=0:rc-lookahead={b_frames + 1}" if b_frames else ""
        return (
            f"x265enc tune=zerolatency speed-preset=ultrafast key-int-max={key} option-string=crf={crf}{order} "
            "! h265parse config-interval=1 ! rtph265pay name=pay0 pt=96"
        )
    if b_frames:
        return (
            f"x264enc bframes={b_frames} b-adapt=false rc-lookahead=0 sync-lookahead=0 sliced-threads=true "
            f"threads={stream.get('slices', 2)} speed-preset=veryfast key-int-max={key} pass=qual quantizer={crf} "
            "option-string=weightp=0:mbtree=0 "
            "! video/x-h264,profile=main ! rtph264pay name=pay0 pt=96 config-interval=-1"
        )
    slices = stream.get("slices", 2)
    return (
        f"x264enc tune=zerolatency speed-preset=ultrafast key-int-max={key} pass=qual quantizer={crf} threads={slices} "
        "! rtph264pay name=pay0 pt=96 config-interval=-1"
    )


def feed(source, stream):
    """Push pictures at their rate, each drawn when it is pushed."""
    painter = Painter(stream.get("still", False), stream.get("noise", 0.0))
    period_ns = round(1e9 / stream["fps"])
    due_ns = time.monotonic_ns() + stream.get("phase_ms", 0) * 1_000_000
    while True:
        while (left := due_ns - time.monotonic_ns()) > 0:
            time.sleep(left / 1e9)
        now_ns = time.monotonic_ns()
        image = painter.draw(now_ns)
        buffer = Gst.Buffer.new_allocate(None, len(image), None)
        buffer.fill(0, image)
        buffer.pts = now_ns - source.get_base_time()
        buffer.duration = period_ns
        if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return
        due_ns = max(due_ns + period_ns, now_ns)  # what a process that stood still has missed is not made up


def main():
    """Serve until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
    for name, stream in json.loads(sys.argv[2]).items():
        factory = GstRtspServer.RTSPMediaFactory(shared=True)
        rate = str(stream["fps"]) + "/1"
        factory.set_launch(
            "( appsrc name=source is-live=true format=time do-timestamp=false "
            f"caps=video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={rate} ! {encoder(stream)} )"
        )

        def configured(_, media, stream=stream):
            source = media.get_element().get_by_name("source")
            threading.Thread(target=started, args=(source, stream), daemon=True).start()

        factory.connect("media-configure", configured)
        server.get_mount_points().add_factory("/" + name, factory)
    if len(sys.argv) > 3:
        lock(server, *sys.argv[3].split(":"))
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


def lock(server, user, password):
    """Let only one user in, who proves it by a digest."""
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    for name in json.loads(sys.argv[2]):
        factory = server.get_mount_points().match("/" + name)[0]
        role = Gst.Structure.new_empty(user)
        role.set_value("media.factory.access", True)
        role.set_value("media.factory.construct", True)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role_from_structure(role)
        factory.set_permissions(permissions)


def started(source, stream):
    """Feed a source once its pipeline plays and has a clock."""
    while not source.get_clock() or source.get_base_time() == 0:
        time.sleep(0.01)
    feed(source, stream)


main()
