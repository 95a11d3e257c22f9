"""An RTSP camera for tests: GStreamer's server, which sends drawn pictures as H.264 until it is killed.

Run by the system's Python, for which Debian has GStreamer:

    apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly
    /usr/bin/python3 tests/line/rtsp_server.py PORT

It prints "ready" when it listens.
"""

import sys

import gi  # type: ignore[import-not-found]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # type: ignore[import-not-found]  # noqa: E402

PICTURES = (
    "( videotestsrc is-live=true pattern=ball ! video/x-raw,width=160,height=96,framerate=25/1 "
    "! x264enc tune=zerolatency key-int-max=10 ! rtph264pay name=pay0 pt=96 )"
)

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_service(sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory()
factory.set_launch(PICTURES)
factory.set_shared(True)
server.get_mount_points().add_factory("/line", factory)
if not server.attach(None):
    sys.exit(f"Port {sys.argv[1]} is taken; name another.")
print("ready", flush=True)
GLib.MainLoop().run()
