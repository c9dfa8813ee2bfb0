"""Run by sdk.test.ts with DOCKER_HOST pointing at the engine; prints `fine` when every assertion holds."""
import io
import tarfile
import time

import docker

client = docker.from_env()
started = int(time.time())
front = client.networks.create("front", driver="bridge", labels={"made": "by docker-py"})
pool = docker.types.IPAMPool(subnet="10.91.0.0/24", gateway="10.91.0.1")
back = client.networks.create("back", internal=True, ipam=docker.types.IPAMConfig(pool_configs=[pool]))

web = client.containers.run(
    "busybox", ["httpd", "-f", "-h", "/etc"], name="web", network="front", detach=True, ports={"80/tcp": ("127.0.0.1", None)}
)
back.connect(web, aliases=["inner"], ipv4_address="10.91.0.40")
web.reload()
assert web.attrs["NetworkSettings"]["Networks"]["back"]["IPAddress"] == "10.91.0.40", web.attrs
assert int(web.ports["80/tcp"][0]["HostPort"]) > 0
assert web.ports["80/tcp"][0]["HostIp"] == "127.0.0.1"

output = client.containers.run("busybox", ["wget", "-qO-", "http://inner/hostname"], network="back", remove=True)
assert output.decode().strip() == web.id[:12], output

for tty in (False, True):
    code, output = web.exec_run(["sh", "-c", "echo out; echo err >&2; exit 3"], tty=tty)
    assert code == 3 and b"out" in output and b"err" in output, (code, output)
code, (out, err) = web.exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
assert (code, out, err) == (0, b"out\n", b"err\n"), (code, out, err)
assert web.exec_run(["no-such-program"])[0] in (126, 127)

archive = io.BytesIO()
with tarfile.open(fileobj=archive, mode="w") as tar:
    member = tarfile.TarInfo("note")
    member.size = 5
    tar.addfile(member, io.BytesIO(b"hello"))
assert web.put_archive("/tmp", archive.getvalue())
chunks, stat = web.get_archive("/tmp/note")
assert stat["size"] == 5 and b"hello" in b"".join(chunks)

image = web.image
image.tag("renamed", "1")
assert "renamed:1" in client.images.get("renamed:1").tags
saved = b"".join(client.images.get("renamed:1").save(named="renamed:1"))
client.images.remove("renamed:1")
assert [i.id for i in client.images.load(saved)] == [image.id]
client.images.remove("renamed:1")
try:
    client.images.get("renamed:1")
    raise AssertionError("removed")
except docker.errors.ImageNotFound:
    pass

volume = client.volumes.create("things")
assert client.containers.run("busybox", ["sh", "-c", "echo kept > /v/f; cat /v/f"], volumes={"things": {"bind": "/v"}}, remove=True) == b"kept\n"
volume.remove()

try:
    front.remove()
    raise AssertionError("a network in use is refused")
except docker.errors.APIError as error:
    assert error.status_code in (403, 409), error

back.disconnect(web)
web.remove(force=True)
front.remove()
back.remove()
actions = [(e["Type"], e["Action"]) for e in client.events(since=started, until=int(time.time()) + 1, decode=True)]
for wanted in [("network", "create"), ("network", "connect"), ("container", "start"), ("container", "die"), ("network", "destroy"), ("volume", "create"), ("image", "tag")]:
    assert wanted in actions, (wanted, actions)
print("fine")
