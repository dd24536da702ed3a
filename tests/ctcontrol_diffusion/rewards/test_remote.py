"""A reward server in a thread: what it is sent, and every way it may fail."""

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ctcontrol import CtcontrolError
from ctcontrol_diffusion.rewards import CheckedReward, RemoteReward, Retried, RewardError
from ctcontrol_diffusion.rewards import load_reward as load

PROMPTS = ["a cat", "a dog"]


class Server(ThreadingHTTPServer):
    """Rewards the red of each image, after `failing` answers of another kind."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.questions: list[dict[str, Any]] = []
        self.failing: list[tuple[int, bytes]] = []
        self.poison = ""
        self.pause = 0.0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/score"


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]  # narrower, as this server makes no other

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.questions.append(question)
        time.sleep(self.server.pause)
        if self.server.failing:
            status, body = self.server.failing.pop(0)
        elif self.server.poison in question["prompts"]:
            status, body = 500, b"out of memory"
        else:
            red = [float(pixels(text)[..., 0].mean()) / 255 for text in question["images"]]
            status, body = 200, json.dumps({"rewards": red, "info": {"red": red}}).encode()
        with suppress(BrokenPipeError, ConnectionResetError):  # who asked may have left
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def pixels(text: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that is stopped after the test."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def batch() -> torch.Tensor:
    images = torch.zeros(2, 3, 4, 6)
    images[1, 0] = 0.6
    return images


def patient(server: Server, attempts: int = 3) -> CheckedReward:
    return CheckedReward("server", Retried(RemoteReward(server.url), attempts, 0.0))


def test_images_prompts_and_metadata_arrive_and_rewards_come_back(server: Server) -> None:
    reward = load(server.url)
    rewards, info = reward(batch(), PROMPTS, {"labels": torch.tensor([3, 5]), "tag": ["x", "y"]})
    assert torch.allclose(rewards, torch.tensor([0.0, 0.6]))
    assert not reward.differentiable
    assert info["red"] == pytest.approx([0, 0.6])
    (question,) = server.questions
    assert question["prompts"] == PROMPTS
    assert question["metadata"] == {"labels": [3, 5], "tag": ["x", "y"]}
    assert pixels(question["images"][1]).shape == (4, 6, 3)
    assert (pixels(question["images"][1])[..., 0] == 153).all()


def test_gray_images_are_sent_as_such(server: Server) -> None:
    question = {"rewards": [1, 2]}
    server.failing = [(200, json.dumps(question).encode())]
    assert load(server.url)(batch()[:, :1], PROMPTS, {})[0].tolist() == [1, 2]
    assert pixels(server.questions[0]["images"][0]).shape == (4, 6)


@pytest.mark.parametrize(
    "failure",
    [
        (500, b"busy"),
        (429, b"too many"),
        (200, b"{not json"),
        (200, b'{"rewards": [1]}'),
        (200, b'{"rewards": [1, null]}'),
        (200, b'{"rewards": [1, NaN]}'),
        (200, b"[1, 2]"),
    ],
)
def test_a_failure_that_may_pass_is_asked_again(server: Server, failure: tuple[int, bytes]) -> None:
    server.failing = [failure, failure]
    assert torch.allclose(patient(server)(batch(), PROMPTS, {})[0], torch.tensor([0.0, 0.6]))
    assert len(server.questions) == 3


def test_in_the_end_it_is_raised_with_the_prompt_and_never_a_zero(server: Server) -> None:
    server.failing = [(503, b"warming up")] * 99
    message = (
        r"reward 'server' cannot be computed: no reward for the prompt 'a cat' \(2 images\) after "
        r"3 attempts, the last of which raised ServerError: .* status 503: warming up"
    )
    with pytest.raises(RewardError, match=message):
        patient(server)(batch(), PROMPTS, {})


def test_the_prompt_that_fails_by_itself_is_the_one_named(server: Server) -> None:
    server.poison = "a dog"
    with pytest.raises(RewardError, match=r"prompt 'a dog' .* out of memory"):
        patient(server)(batch(), PROMPTS, {"labels": torch.tensor([3, 5])})
    assert [q["metadata"]["labels"] for q in server.questions[-2:]] == [[3], [5]]


def test_a_refusal_is_not_repeated(server: Server) -> None:
    server.failing = [(404, b"no such page")] * 9
    with pytest.raises(RewardError, match="status 404: no such page; correct the address"):
        patient(server)(batch(), PROMPTS, {})
    assert len(server.questions) == 1


def test_a_silent_server_times_out(server: Server) -> None:
    server.pause = 0.3
    slow = Retried(RemoteReward(server.url, timeout=0.05), attempts=2, wait=0.0)
    with pytest.raises(CtcontrolError, match=r"'a cat'.*does not answer: timed out"):
        slow(batch(), PROMPTS, {})


def test_a_server_that_is_not_there() -> None:
    with Server() as gone:
        url = gone.url
    lost = Retried(RemoteReward(url), attempts=2, wait=0.0)
    with pytest.raises(CtcontrolError, match=r"'a cat'.*does not answer: .*refused"):
        lost(batch(), PROMPTS, {})


def test_bad_arguments() -> None:
    with pytest.raises(CtcontrolError, match="needs an http:// address, got 'ftp://x'"):
        RemoteReward("ftp://x")
    with pytest.raises(CtcontrolError, match=r"timeout of a reward server must be .* 0"):
        RemoteReward("http://x", 0.0)
    with pytest.raises(CtcontrolError, match="attempts of a retried reward"):
        Retried(RemoteReward("http://x"), 0)
    with pytest.raises(CtcontrolError, match="cannot be written as JSON: object has no place"):
        RemoteReward("http://127.0.0.1:9")(batch(), PROMPTS, {"thing": [object(), object()]})


def test_waits_double_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)

    def failing(images: object, prompts: object, metadata: object) -> Any:
        raise ValueError("once more")

    with pytest.raises(CtcontrolError, match=r"after 4 attempts, .* ValueError: once more"):
        Retried(failing, 4, 0.5)(batch(), PROMPTS, {})
    assert waits == [0.5, 1.0, 2.0]
