"""A process that ends in many ways while threads work: a child is forked for each case.

Reads cases from standard input, a JSON object a line: work, ending, daemon, after (seconds). Writes
how each child ended: code (as subprocess has it), seconds after its script's end, what it said.
The modules are imported once, before the forks, so a case takes a tenth of a second.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.stages import DRY, Chain, Custom, Infill, Mask, TopK
from mullama_lab.studies.sweeps import sweep

FOLDER = Path(sys.argv[1])  # with tiny.gguf, bpe.gguf and bert.gguf
HUNG = 8  # seconds

TEXT = "abc " * 500
LONG = [100, 101, 100, 100, 101] * 8000
ENDLESS = Chain([Mask(ban=[2])])
ALL = Chain([DRY(multiplier=0.8), TopK(9), Infill(), Custom(lambda logits, history: logits)])

made = threading.local()


def model():
    return MODELS["tiny.gguf"]


def own_session():
    """A session of this thread alone."""
    if not hasattr(made, "session"):
        made.session = model().session(n_ctx=1 << 16, n_batch=256, n_threads=1)
    return made.session


def encoder():
    if not hasattr(made, "encoder"):
        made.encoder = MultiVectorEncoder(MODELS["bert.gguf"], preset="plain")
    return made.encoder


def load(**options):
    Model.load(FOLDER / "tiny.gguf", **options).tokenize("abc")


def pieces():
    model().vocabulary._bytes.clear()
    model().detokenize(range(3, 250))
    model().is_control(5)


def save():
    path = FOLDER / f"saved-{os.getpid()}-{threading.get_ident()}"
    own_session().logits(LONG[:200])
    own_session().save(path)
    Session.load(path, model()).close()


def opened_and_closed():
    with model().session(n_ctx=256) as session:
        session.generate("abc", ENDLESS, max_tokens=5)


def search():
    if not hasattr(made, "index"):
        made.index = MultiVectorIndex(encoder())
        made.index.add(["a text", "another"] * 20, progress=False)
    made.index.search("text")


WORK = {
    "tokenize": lambda: model().tokenize(TEXT),
    "tokenize a long run": lambda: MODELS["bpe.gguf"].tokenize("a" * 20_000),
    "pieces": pieces,
    "preview": lambda: ALL.preview([0.0] * model().n_vocab, model=model(), seed=1),
    "generate": lambda: own_session().generate("abc", ENDLESS, max_tokens=30),
    "generate on one session": lambda: SHARED[0].generate("abc", ENDLESS, max_tokens=30),
    "a long generation": lambda: own_session().generate("abc", ENDLESS, max_tokens=60_000),
    "a long prompt": lambda: own_session().logits(LONG),
    "score": lambda: own_session().score(LONG[:2000]),
    "stream": lambda: list(own_session().stream("abc", ENDLESS, max_tokens=2000)),
    "start": lambda: own_session().start("abc", ENDLESS, max_tokens=2000),
    "start many": lambda: own_session().start_many(["abc"] * 8, ENDLESS, max_tokens=2000),
    "many": lambda: own_session().generate_many(["abc"] * 4, ENDLESS, max_tokens=50),
    "sweep": lambda: sweep(
        "abc", TopK(3), on=own_session(), seeds=range(2), max_tokens=5, progress=False
    ),
    "encode": lambda: encoder().encode_documents(["a text"] * 30, progress=False),
    "search": search,
    "save": save,
    "sessions": opened_and_closed,
    "load": load,
    "load with progress": lambda: load(progress=lambda done: True),
    "load the vocabulary": lambda: load(vocab_only=True),
    "a stage that sleeps": lambda: own_session().generate(
        "abc", Custom(lambda logits, history: time.sleep(60) or logits), max_tokens=5
    ),
}


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)


def terminate():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)


def fail():
    raise LookupError("as asked")


def close():
    for each in MODELS.values():
        each.close()


def forked_child():
    """Its parent waits; both go on to their end."""
    faulthandler.cancel_dump_traceback_later()  # whose thread a fork would wait for
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if status:
            os._exit(100)


ENDINGS = {  # what ends the script, and the code that the process then has
    "nothing": (lambda: None, 0),
    "sys.exit": (lambda: sys.exit(3), 3),
    "os._exit": (lambda: os._exit(4), 4),
    "an exception": (fail, 1),
    "SIGINT": (interrupt, -signal.SIGINT),
    "SIGTERM": (terminate, -signal.SIGTERM),
    "close": (close, 0),
    "a fork": (forked_child, 0),
}

MODELS: dict[str, Model] = {}
SHARED: list = []


def play(case):
    """Be the process of a case; its script ends with this function."""
    faulthandler.dump_traceback_later(HUNG - 2, exit=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in ("tiny.gguf", "bpe.gguf", "bert.gguf"):
        MODELS[name] = Model.load(FOLDER / name)
    SHARED.append(model().session(n_ctx=4096))
    work, ended = WORK[case["work"]], threading.Event()
    begun = [threading.Event() for _ in range(2)]

    def loop(event):
        end = None
        while end is None or time.monotonic() < end:
            event.set()
            try:
                work()
            except Exception:
                if case["ending"] not in ("close", "a fork"):
                    raise
            if ended.is_set() and not case["daemon"] and end is None:
                end = time.monotonic() + 0.2

    for event in begun:
        threading.Thread(target=loop, args=(event,), daemon=case["daemon"]).start()
    for event in begun:
        event.wait()
    time.sleep(case["after"])
    (FOLDER / f"end-{os.getpid()}").write_text(str(time.time()))
    ended.set()
    ENDINGS[case["ending"]][0]()


def watch(pid, said):
    """How the process of a case ended, as the line to write."""
    began = time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - began > HUNG:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
        time.sleep(0.005)
    end = FOLDER / f"end-{pid}"
    seconds = time.time() - float(end.read_text()) if end.exists() else -1.0
    end.unlink(missing_ok=True)
    said.seek(0)
    text = said.read().decode("utf-8", "replace")
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "said": text}


for line in sys.stdin:
    case = json.loads(line)
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 2)
            os.dup2(said.fileno(), 1)
            play(case)
            break
        print(json.dumps(watch(pid, said)), flush=True)
