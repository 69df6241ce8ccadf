"""Two threads that use the same things, and a third that closes some: a child forked for each case.

Reads cases from standard input, a JSON object a line: works (two lists of names), closing (a name),
after (seconds). Writes what each child said: nothing, where all was as documented.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from pathlib import Path

from mullama_lab.engine.encoder import MultiVectorEncoder
from mullama_lab.engine.index import MultiVectorIndex
from mullama_lab.engine.model import Model
from mullama_lab.engine.session import Session
from mullama_lab.engine.setting import Setting
from mullama_lab.engine.stages import DRY, Chain, Mask, TopK
from mullama_lab.engine.steering.control_vector import ControlVector
from mullama_lab.errors import ClosedError, ContextFull, SessionError, Stopped, UnknownDocument
from mullama_lab.studies.replay import replay
from mullama_lab.studies.sweeps import sweep

FOLDER = Path(sys.argv[1])  # with tiny.gguf and bert.gguf
SECONDS = 15  # for one case
ENDLESS = Chain([Mask(ban=[2])])
OTHER = Chain([DRY(multiplier=0.8), TopK(9), Mask(ban=[2])])
VECTORS = [None, ControlVector({1: [0.5, -0.5] * 16})]
PROMPTS = [[1, *range(10, 10 + n)] for n in (1, 5, 30, 60)]


class Bench:
    """What the threads share."""

    def __init__(self):
        self.model = Model.load(FOLDER / "tiny.gguf")
        self.session = self.model.session(n_ctx=256, n_threads=1, n_seq_max=4)
        self.bert = Model.load(FOLDER / "bert.gguf")
        self.encoder = MultiVectorEncoder(self.bert, preset="plain")
        self.index = MultiVectorIndex(self.encoder)
        self.index.add(["a text", "another"], ["a", "b"], progress=False)
        self.trace = self.session.generate("abc", ENDLESS, max_tokens=9, seed=1)
        self.run = self.session.start("abc", ENDLESS, max_tokens=100)
        self.talk = self.session.conversation()


def started(b, chance):
    """A run that others may have in hand by now."""
    b.run = b.session.start(chance.choice(PROMPTS), ENDLESS, max_tokens=60)
    return b.run


def streamed(b, chance):
    for number, _ in enumerate(b.session.stream("abc", ENDLESS, max_tokens=30)):
        if number > chance.randrange(40):
            break


def watched(b, chance):
    run, seen = started(b, chance), []
    undo = run.on_step(seen.append)
    run.on_end(seen.append)
    run.chain = chance.choice([ENDLESS, OTHER])
    run.wait(5)
    undo()


def own_session(b, chance):
    with b.model.session(n_ctx=64, n_threads=1) as session:
        session.generate("abc", ENDLESS, max_tokens=chance.randrange(9))


def saved(b, chance):
    path = FOLDER / f"saved-{os.getpid()}-{chance.randrange(2)}"
    b.session.save(path)
    Session.load(path, b.model).close()


def forked(b, chance):
    made = b.session.fork()
    b.session.rewind(0, sequence=made)
    b.session.remove(made)


def changed(b, chance):
    made = b.index.add(["one", "two"], progress=False)
    b.index.update(made[0], "three")
    b.index.get(made[1])
    b.index.remove(made)


def looked_at(b, chance):
    for each in (b.model, b.session, b.encoder, b.index, b.run, b.talk, b.trace):
        repr(each)
    for name in ("sequences", "ledger", "tokens", "n_cells", "n_decoded", "closed"):
        getattr(b.session, name)
    for name in ("state", "error", "chain", "setting", "progress"):
        getattr(b.run, name)
    for each in (b.model.card(), b.encoder.card(), b.run.trace.text, b.index.ids, b.talk.messages):
        str(each)


WORK = {
    "generate": lambda b, c: b.session.generate(c.choice(PROMPTS), ENDLESS, max_tokens=20),
    "many": lambda b, c: b.session.generate_many(PROMPTS, ENDLESS, max_tokens=20),
    "stream": streamed,
    "start": lambda b, c: started(b, c).step_or_end(c.randrange(60)),
    "start and stop": lambda b, c: started(b, c).stop_and_wait(),
    "watch": watched,
    "wait": lambda b, c: b.run.wait(5),
    "read": lambda b, c: list(b.run),
    "change the chain": lambda b, c: setattr(b.run, "chain", c.choice([ENDLESS, OTHER])),
    "change the setting": lambda b, c: setattr(
        b.run, "setting", Setting(c.choice([ENDLESS, OTHER]), control=c.choice(VECTORS))
    ),
    "stop": lambda b, c: b.session.stop(),
    "branch": lambda b, c: b.session.branch(b.trace, c.randrange(9), 30, ENDLESS, max_tokens=5),
    "score": lambda b, c: b.session.score(c.choice(PROMPTS)),
    "choose": lambda b, c: b.session.choose("abc", ["a", "b"]),
    "logits": lambda b, c: b.session.logits(c.choice(PROMPTS)),
    "fork": forked,
    "reset": lambda b, c: b.session.reset(),
    "save": saved,
    "say": lambda b, c: b.talk.say("hello", ENDLESS, max_tokens=9),
    "stream of the talk": lambda b, c: next(b.talk.stream("hello", ENDLESS, max_tokens=9)),
    "undo": lambda b, c: b.talk.undo(),
    "own session": own_session,
    "tokenize": lambda b, c: b.model.tokenize("abc " * c.randrange(200)),
    "detokenize": lambda b, c: (
        b.model.vocabulary._bytes.clear(),
        b.model.detokenize(range(3, 250)),
    ),
    "preview": lambda b, c: OTHER.preview([0.0] * b.model.n_vocab, model=b.model, seed=1),
    "render": lambda b, c: b.model.render_chat([{"role": "user", "content": "hello"}]),
    "replay": lambda b, c: replay(b.trace, OTHER, on=b.session),
    "sweep": lambda b, c: sweep(
        "abc", TopK(3), on=b.session, seeds=range(2), max_tokens=5, progress=False
    ),
    "encode": lambda b, c: b.encoder.encode_documents(["a text"] * 9, progress=False),
    "encode and stop": lambda b, c: b.encoder.start_documents(["a text"] * 9).stop(),
    "own encoder": lambda b, c: MultiVectorEncoder(b.bert, preset="plain").close(),
    "search": lambda b, c: b.index.search("text"),
    "change the index": changed,
    "save the index": lambda b, c: b.index.save(FOLDER / f"index-{os.getpid()}", progress=False),
    "look": looked_at,
    "close the session": lambda b, c: b.session.close(),
}
# What may be raised besides ClosedError and Stopped, where another thread is quicker.
ALSO = {
    "change the index": (UnknownDocument,),
    "undo": (ValueError,),  # nothing was said
    **dict.fromkeys(("say", "stream of the talk"), (ContextFull,)),
    **dict.fromkeys(("fork", "branch", "sweep"), (SessionError, ValueError)),
}
CLOSING = {
    "nothing": lambda b: None,
    "the session": lambda b: b.session.close(),
    "the model": lambda b: b.model.close(),
    "the encoder": lambda b: b.encoder.close(),
    "the encoder's model": lambda b: b.bert.close(),
    "all": lambda b: [each.close() for each in (b.model, b.session, b.bert, b.encoder)],
    "stop": lambda b: [b.session.stop() for _ in range(20)],
}


def play(case):
    """Be the process of a case: what goes wrong is written to the standard error stream."""
    faulthandler.dump_traceback_later(SECONDS - 2, exit=True)
    warnings.simplefilter("ignore")
    bench, closed = Bench(), threading.Event()
    wrong = []

    def hammer(works, chance):
        end = None
        while end is None or time.monotonic() < end:
            for name in works:
                try:
                    WORK[name](bench, chance)
                except (ClosedError, Stopped, *ALSO.get(name, ())):
                    pass
                except BaseException:
                    wrong.append(f"{name}: {traceback.format_exc()}")
                    return
            if closed.is_set() and end is None:
                end = time.monotonic() + 0.05

    threads = [
        threading.Thread(target=hammer, args=(works, random.Random(number)))
        for number, works in enumerate(case["works"])
    ]
    for thread in threads:
        thread.start()
    time.sleep(case["after"])
    CLOSING[case["closing"]](bench)
    closed.set()
    for thread in threads:
        thread.join()
    print("\n".join(wrong), end="", file=sys.stderr, flush=True)


def watch(pid, said):
    """How the process of a case ended, and what it said, as the line to write."""
    _, status = os.waitpid(pid, 0)
    said.seek(0)
    text = said.read().decode("utf-8", "replace")
    return {"code": os.waitstatus_to_exitcode(status), "said": text}


for line in sys.stdin:
    case = json.loads(line)
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            os.dup2(said.fileno(), 2)
            os.dup2(said.fileno(), 1)
            signal.alarm(2 * SECONDS)
            play(case)
            break
        print(json.dumps(watch(pid, said)), flush=True)
