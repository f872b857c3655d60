"""A WHIP client (RFC 9725) made of aiortc: posts an offer, says a file, keeps what it hears, and deletes when told to.

    whip.py URL TOKEN SAYS.wav HEARS.raw

Tells what happens as JSON lines; `hangup` on standard input ends the call. HEARS.raw is 48 kHz, 16 bit, one channel.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer


def tell(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)


def http(method, url, token, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/sdp"}
    request = urllib.request.Request(url, method=method, data=body, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        return response.status, response.headers, response.read().decode()


async def keep(track, path):
    with open(path, "wb", buffering=0) as file:
        while True:
            frame = await track.recv()
            channels = len(frame.layout.channels)
            samples = memoryview(bytes(frame.planes[0])[: frame.samples * channels * 2]).cast("h")
            file.write(samples[::channels].tobytes())


async def main(url, token, says, hears):
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(MediaPlayer(says, loop=True).audio)
    keeping = []
    connection.on("track", lambda track: keeping.append(asyncio.ensure_future(keep(track, hears))))
    connection.on("connectionstatechange", lambda: tell("connection", state=connection.connectionState))
    await connection.setLocalDescription(await connection.createOffer())
    try:
        status, headers, answer = await asyncio.to_thread(http, "POST", url, token, connection.localDescription.sdp.encode())
    except urllib.error.HTTPError as error:
        tell("refused", status=error.code, type=error.headers.get("Content-Type"), body=error.read().decode())
        return
    resource = urllib.parse.urljoin(url, headers["Location"])
    tell("answer", status=status, type=headers.get("Content-Type"), etag=headers.get("ETag"), resource=resource)
    await connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
    await asyncio.to_thread(sys.stdin.readline)
    try:
        status, _, _ = await asyncio.to_thread(http, "DELETE", resource, token)
    except urllib.error.HTTPError as error:
        status = error.code
    tell("deleted", status=status)
    await connection.close()


asyncio.run(main(*sys.argv[1:]))
