"""The server of the review page, spoken to in plain HTTP: what it tells, what it saves, and what it refuses."""

from __future__ import annotations

import contextlib
import csv
import http.client
import io
import json
import math
import socket
import threading

import numpy as np
import pytest
import shapely
from PIL import Image

from stainda.annotations import read_shapes
from stainda.errors import StaindaError
from stainda.registration import load_block, map_points
from stainda.review import ReviewServer
from stainda.review.decisions import read_decisions
from stainda.review.tiles import Source, Tiles
from stainda.slides import open_slide


class Connection(http.client.HTTPConnection):
    """Also sends what no browser would."""

    def _encode_request(self, request):
        return request.encode()


class Client:
    """What a browser on this machine would send."""

    def __init__(self, server, token=None):
        self.server, self.token = server, token or server.token

    def ask(self, method, path, body=None, raw=False, **headers):
        connection = Connection("127.0.0.1", self.server.port, timeout=30)
        sent = {"Host": f"127.0.0.1:{self.server.port}", **headers}
        connection.putrequest(method, path if raw else f"/{self.token}/{path}", skip_host=True)
        for name, value in sent.items():
            connection.putheader(name, value)
        if body is not None and "Content-Length" not in sent:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body is not None:
            connection.send(body)
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response, data

    def get(self, path):
        response, data = self.ask("GET", path)
        return response.status, json.loads(data)

    def decide(self, request, **headers):
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        origin = {"Origin": f"http://127.0.0.1:{self.server.port}", "Content-Type": "application/json"}
        response, data = self.ask("POST", "api/decisions", body, **{**origin, **headers})
        return response.status, json.loads(data)


def log_of(run):
    path = run / "review" / "log.csv"
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def an_object(client, target):
    _, told = client.get("api/overview")
    return next(one for one in told["objects"] if one["target"] == target)


# what it tells -------------------------------------------------------------------------------------------------------


def test_the_overview_lists_every_propagated_object_least_confident_first(serve, run):
    status, told = Client(serve()).get("api/overview")
    assert status == 200 and told["reviewer"] == "Dr A" and told["blocks"] == ["P0", "P1", "P2"]
    with (run / "annotations" / "propagation.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["confidence"]]
    assert sorted((one["source"], one["target"]) for one in told["objects"]) == sorted(
        (row["source"], row["target"]) for row in rows
    )
    sureness = [one["confidence"] for one in told["objects"]]
    assert sureness == sorted(sureness) and told["decisions"] == {}


def test_a_block_tells_outlines_as_they_lie_in_the_files(serve, run):
    client = Client(serve())
    one = an_object(client, "P0_SR")
    _, block = client.get("api/blocks/P0")
    propagated = read_shapes(run / "annotations" / "propagated" / "P0_SR.geojson")
    drawn = block["outlines"][one["key"]]["propagated"]
    ring = shapely.Polygon(np.array(drawn["rings"][0]).reshape(-1, 2))
    overlaps = [ring.intersection(shape).area / ring.union(shape).area for shape in propagated.geometry]
    assert max(overlaps) > 0.98 and drawn["kind"] == "area"


def test_the_grid_that_keeps_views_together_is_the_transform(serve, run):
    """Bilinear between the grid's nodes, a frame point lies within half a pixel of where the transform takes it."""
    _, block = Client(serve()).get("api/blocks/P0")
    transforms = load_block(run / "registration", "P0").transforms
    points = np.random.default_rng(1).uniform(20, 360, (200, 2))
    for section in block["sections"]:
        grid = section["grid"]
        nodes = np.array(grid["points"]).reshape(grid["n"], grid["n"], 2)
        at = (points - [grid["x"], grid["y"]]) / [grid["dx"], grid["dy"]]
        low = np.floor(at).astype(int)
        s, t = (at - low).T[:, :, None]
        j, i = low[:, 1], low[:, 0]
        mixed = (1 - t) * ((1 - s) * nodes[j, i] + s * nodes[j, i + 1]) + t * (
            (1 - s) * nodes[j + 1, i] + s * nodes[j + 1, i + 1]
        )
        assert np.abs(mixed - transforms[section["slide"]].from_frame(points)).max() < 0.5


def test_own_annotations_of_targets_stay_hidden_unless_they_are_asked_for(serve):
    _, hidden = Client(serve()).get("api/blocks/P0")
    _, shown = Client(serve(show_own=True)).get("api/blocks/P0")
    own = {section["slide"]: len(section["own"]) for section in hidden["sections"]}
    assert own == {"P0_PAS": 4, "P0_SR": 0}
    assert {section["slide"]: len(section["own"]) for section in shown["sections"]} == {"P0_PAS": 4, "P0_SR": 4}


def test_only_the_block_asked_for_is_served(serve, run):
    client = Client(serve(block="P1"))
    _, told = client.get("api/overview")
    assert told["blocks"] == ["P1"] and {one["block"] for one in told["objects"]} == {"P1"}
    assert client.get("api/blocks/P0")[0] == 404
    with pytest.raises(StaindaError, match=r"'P9'.*P0, P1, P2"):
        ReviewServer(run, "Dr A", block="P9")


def test_tiles_are_the_pixels_of_the_slide(serve):
    server = serve()
    client = Client(server)
    _, block = client.get("api/blocks/P0")
    section = next(one for one in block["sections"] if one["slide"] == "P0_PAS")
    response, data = client.ask("GET", f"tiles/{section['number']}/{section['top']}/0_0.jpg")
    assert response.status == 200 and response.headers["Content-Type"] == "image/jpeg"
    tile = np.asarray(Image.open(io.BytesIO(data)), int)
    with open_slide(server.api.sources[section["number"]].path) as slide:
        pixels = slide.read(0, 0, *slide.size).astype(int)
    # JPEG loses some of the noise from pixel to pixel, not the mean of a few
    means = [one.reshape(96, 4, 96, 4, 3).mean(axis=(1, 3)) for one in (tile, pixels)]
    assert np.abs(means[0] - means[1]).mean() < 1
    for path in (
        "99/0/0_0.jpg",
        "0/99/0_0.jpg",
        "0/9/7_0.jpg",
        "0/9/-1_0.jpg",
        "0/9/0_0.png",
        "0/9/0.jpg",
        "0/x/0_0.jpg",
    ):
        assert client.ask("GET", f"tiles/{path}")[0].status == 404, path


def test_tiles_of_every_level_join_to_the_slide_and_their_memory_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("stainda.review.tiles.OVERVIEW", 512)
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (18, 26, 3), np.uint8)
    picture = np.asarray(Image.fromarray(small).resize((1300, 900), Image.Resampling.BICUBIC))
    Image.fromarray(picture).save(tmp_path / "slide.png")
    source = Source(tmp_path / "slide.png", 0.5, (1300, 900))
    tiles = Tiles([source], cache_bytes=200_000)
    for level in (source.top, source.top - 1, source.top - 3, 0):
        scale = 2 ** (source.top - level)
        width, height = math.ceil(1300 / scale), math.ceil(900 / scale)
        joined = np.full((height, width, 3), -1, int)
        for row in range(math.ceil(height / 512)):
            for column in range(math.ceil(width / 512)):
                tile = np.asarray(Image.open(io.BytesIO(tiles.tile(0, level, column, row))), int)
                top, left = max(0, row * 512 - 1), max(0, column * 512 - 1)
                joined[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        wanted = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX), int)
        assert (joined >= 0).all() and np.abs(joined - wanted).mean() < 4, level
        assert tiles.tile(0, level, math.ceil(width / 512), 0) is None
    assert tiles.cached_bytes <= 200_000
    tiles.close()


# what it saves -------------------------------------------------------------------------------------------------------


def test_decisions_are_saved_at_once_logged_and_survive_a_restart(serve, run):
    client = Client(serve())
    keys = [one["key"] for one in client.get("api/overview")[1]["objects"]][:3]
    first = client.decide({"key": keys[0], "decision": "accept", "expected": ""})[1]["decision"]
    client.decide({"key": keys[1], "decision": "reject", "expected": ""})
    assert first["kind"] == "accept" and first["reviewer"] == "Dr A" and not first["stale"]
    assert [decision.kind for decision in read_decisions(run).values()].count("reject") == 1
    again = Client(serve(reviewer="Dr B"))
    standing = again.get("api/decisions")[1]
    assert {key: standing[key]["kind"] for key in keys[:2]} == {keys[0]: "accept", keys[1]: "reject"}
    status, told = again.decide({"key": keys[0], "decision": "unsure", "expected": first["version"]})
    assert status == 200 and told["decision"]["reviewer"] == "Dr B"
    assert [(row["decision"], row["before"], row["reviewer"]) for row in log_of(run)] == [
        ("accept", "none", "Dr A"), ("reject", "none", "Dr A"), ("unsure", "accept", "Dr B"),
    ]  # fmt: skip


def test_a_nudge_moves_what_stands_and_undo_goes_back_step_by_step(serve, run):
    client = Client(serve())
    one = an_object(client, "P1_SR")
    place = ("P1_SR", one["source"])

    def standing():
        found = [made for key, made in read_decisions(run).items() if key[:2] == place]
        return found[0] if found else None

    version = ""
    for _ in range(2):
        request = {"key": one["key"], "decision": "nudge", "expected": version, "dx": 4, "dy": -2.5}
        version = client.decide(request)[1]["decision"]["version"]
    moved, propagated = standing().geometry.centroid, standing().propagated.centroid
    assert (moved.x - propagated.x, moved.y - propagated.y) == pytest.approx((8, -5))
    accepted = client.decide({"key": one["key"], "decision": "accept", "expected": version})[1]["decision"]
    assert standing().geometry.centroid.x == pytest.approx(moved.x)  # what is shown is what is accepted
    version = accepted["version"]
    for wanted in (8, 4, None):
        told = client.decide({"key": one["key"], "decision": "undo", "expected": version})[1]["decision"]
        if wanted is None:
            assert told is None and standing() is None
        else:
            version = told["version"]
            assert standing().geometry.centroid.x - propagated.x == pytest.approx(wanted)
    assert client.decide({"key": one["key"], "decision": "undo", "expected": ""})[0] == 409
    assert [row["decision"] for row in log_of(run)] == ["nudge", "nudge", "accept", "nudge", "nudge", "none"]


def test_a_redrawn_outline_is_kept_as_drawn_within_the_slide(serve, run):
    client = Client(serve())
    one = an_object(client, "P0_SR")
    ring = [[300, 300], [500, 300], [500, 340], [300, 340]]
    status, told = client.decide({"key": one["key"], "decision": "redraw", "expected": "", "ring": ring})
    assert status == 200 and told["decision"]["kind"] == "redraw"
    (made,) = read_decisions(run).values()
    assert made.geometry.equals(shapely.box(300, 300, 384, 340))  # the slide ends at 384


def test_two_windows_that_decide_at_once_lose_nothing(serve, run):
    """Each of forty objects is decided by one of two servers of the run; of two decisions on one object the second is
    refused, not written over the first."""
    clients = [Client(serve()), Client(serve(reviewer="Dr B"))]
    keys = [one["key"] for one in clients[0].get("api/overview")[1]["objects"]]
    answers = []

    def decide(client, key, kind):
        answers.append(client.decide({"key": key, "decision": kind, "expected": ""})[0])

    threads = [
        threading.Thread(target=decide, args=(client, key, kind))
        for key in keys
        for client, kind in zip(clients, ("accept", "reject"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] * len(keys) + [409] * len(keys)
    assert len(read_decisions(run)) == len(keys) == len(log_of(run))
    assert {made.kind for made in read_decisions(run).values()} <= {"accept", "reject"}


def test_an_object_that_a_gate_dropped_is_offered_where_the_transform_takes_it(serve, run):
    path = run / "annotations" / "propagation.csv"
    lines = path.read_text().splitlines()
    columns = lines[0].split(",")
    at = next(i for i, line in enumerate(lines) if ",P0_SR,kept," in line)
    cells = dict(zip(columns, next(csv.reader([lines[at]])), strict=True))
    lines[at] = lines[at].replace(",kept,", ",dropped,", 1)
    path.write_text("\n".join(lines) + "\n")
    shapes = run / "annotations" / "propagated" / "P0_SR.geojson"
    document = json.loads(shapes.read_text())
    document["features"] = [one for one in document["features"] if one["id"] != cells["id"]]
    shapes.write_text(json.dumps(document))
    client = Client(serve())
    one = next(one for one in client.get("api/overview")[1]["objects"] if one["dropped"])
    drawn = client.get("api/blocks/P0")[1]["outlines"][one["key"]]["propagated"]
    transforms = load_block(run / "registration", "P0").transforms
    own = read_shapes(run / "annotations" / "own" / "P0_PAS.geojson").set_index("id")
    wanted = map_points(
        shapely.get_coordinates(own.loc[cells["id"], "geometry"].centroid), transforms["P0_PAS"], transforms["P0_SR"]
    )
    ring = np.array(drawn["rings"][0]).reshape(-1, 2)
    assert np.allclose(shapely.Polygon(ring).centroid.coords[0], wanted[0], atol=1)


# what it refuses -----------------------------------------------------------------------------------------------------


def test_it_listens_on_this_machine_only(serve):
    server = serve()
    assert server.url.startswith("http://127.0.0.1:") and len(server.token) >= 32
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        assert connection.getpeername()[0] == "127.0.0.1"
    assert server._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "", "[::1]:80"])
def test_another_host_name_is_refused_so_that_no_foreign_name_can_be_pointed_here(serve, host):
    response, _ = Client(serve()).ask("GET", "api/overview", Host=host)
    assert response.status == 421


def test_nothing_is_told_without_the_token(serve):
    server = serve()
    for token in ("wrong", "", server.token[:-1], server.token + "x", "é"):
        response, _ = Client(server).ask("GET", f"/{token}/api/overview", raw=True)
        assert response.status in (400, 403), token
    assert Client(server).ask("GET", "/", raw=True)[0].status == 403


@pytest.mark.parametrize(
    "path",
    [
        "../study.yaml", "..%2f..%2fstudy.yaml", "%2e%2e/study.yaml", "static/../../api.py", "api.py", "server.py",
        "openseadragon.LICENSE.txt/../api.py", "tiles/../../etc/passwd", "tiles/0/0/../../../x.jpg", "//etc/passwd",
        "api/blocks/..%2f..%2fP0", "api/blocks/P0/..", "tiles/0/1e3/0_0.jpg", "tiles/٣/0/0_0.jpg", "\\..\\study.yaml",
    ],
)  # fmt: skip
def test_no_path_leads_to_a_file(serve, path):
    response, data = Client(serve()).ask("GET", path)
    assert response.status == 404 and b"stainda" not in data and b"root:" not in data


def test_every_answer_carries_the_headers_that_keep_other_pages_out(serve):
    response, _ = Client(serve()).ask("GET", "")
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert response.headers["Referrer-Policy"] == "no-referrer"  # the address holds the token
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in response.headers


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://127.0.0.1"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Length": "5000000"}, 413),
        ({"Content-Length": "99999999999999999999"}, 413),
        ({"Content-Length": "-1"}, 411),
        ({"Content-Length": "x"}, 411),
    ],
)
def test_a_decision_from_elsewhere_or_of_another_kind_is_refused(serve, run, headers, status):
    client = Client(serve())
    request = {"key": an_object(client, "P0_SR")["key"], "decision": "accept", "expected": ""}
    assert client.decide(request, **headers)[0] == status
    assert read_decisions(run) == {} and log_of(run) == []


NAN_RING = b'{"key":"%s","decision":"redraw","expected":"","ring":[[0,0],[9,NaN],[9,9]]}'


@pytest.mark.parametrize(
    "change",
    [
        {"ring": [[0, 0], [9, 0]]},
        {"ring": []},
        {"ring": "everything"},
        {"ring": [[0, 0], [100, 100], [100, 0], [0, 100]]},
        {"ring": [[0, 0], [50, 50], [100, 100]]},
        {"ring": [[900, 900], [950, 900], [950, 950]]},
        {"ring": [[0, 0], [9, 0], [9, 1e300]]},
        {"ring": [[0, 0], [9, "0"], [9, 9]]},
        {"ring": [[0, 0, 0], [9, 0, 0], [9, 9, 0]]},
        {"ring": [[0, 0], [9, True], [9, 9]]},
        {"ring": [[i % 300, i // 300] for i in range(20_001)]},
        {"decision": "nudge", "dx": 1},
        {"decision": "nudge", "dx": 1e7, "dy": 0},
        {"decision": "nudge", "dx": "1", "dy": 0},
        {"decision": "burn"},
        {"decision": None},
        {"key": 3},
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_and_nothing_is_written(serve, run, change):
    client = Client(serve())
    request = {"key": an_object(client, "P0_SR")["key"], "decision": "redraw", "expected": "", **change}
    status, told = client.decide(request)
    assert status == 400 and told["error"]
    assert read_decisions(run) == {} and log_of(run) == []


def test_bodies_that_are_no_json_are_refused(serve, run):
    client = Client(serve())
    key = an_object(client, "P0_SR")["key"].encode()
    for body in (
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        NAN_RING % key,
        (NAN_RING % key).replace(b"NaN", b"-Infinity"),
    ):
        assert client.decide(body)[0] == 400, body[:40]
    assert client.decide({"key": "nobody", "decision": "accept", "expected": ""})[0] == 404
    assert read_decisions(run) == {}


def test_a_large_body_is_not_read_and_the_server_goes_on(serve):
    client = Client(serve())
    with contextlib.suppress(ConnectionError):  # it may hang up while the rest is still being sent
        assert client.decide(b" " * 3_000_000, **{"Content-Length": "3000000"})[0] == 413
    assert client.get("api/overview")[0] == 200


def test_a_run_without_propagated_annotations_is_told_so(tmp_path, run):
    with pytest.raises(StaindaError, match="stainda run"):
        ReviewServer(tmp_path / "nowhere", "Dr A")
    table = run / "annotations" / "propagation.csv"
    table.write_text(table.read_text().splitlines()[0] + "\n")
    with pytest.raises(StaindaError, match="nothing to review"):
        ReviewServer(run, "Dr A")
