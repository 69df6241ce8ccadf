"""A chat template that would take all memory or time is ended, and the kernel's process is not."""

from __future__ import annotations

import json
import threading
import time

import pytest

from mullama_lab.engine import bounded_process
from mullama_lab.engine.bounded_process import Ended
from mullama_lab.engine.chat import process
from mullama_lab.errors import ModelError

HELLO = [{"role": "user", "content": "Hello"}]
TWICE = (
    "{%% set ns = namespace(x=%s) %%}{%% for i in range(64) %%}{%% set ns.x = %s %%}{%% endfor %%}"
)
LISTS = TWICE % ("[]", "[ns.x, ns.x]")

HUNGRY = {
    "product": "{{ ('a' * 3000000000) | length }}",
    "list": "{{ ([0] * 10000000000) | length }}",
    "format": "{{ '%1000000000d' % 1 }}",
    "width": "{{ '{:>1000000000}'.format(1) }}",
    "filter format": "{{ '%01000000000d' | format(1) }}",
    "center": "{{ 'x' | center(1000000000) }}",
    "method": "{{ 'x'.zfill(1000000000) }}",
    "tabs": "{{ '\\t'.expandtabs(1000000000) }}",
    "indent": "{{ 'x' | indent(1000000000, true) }}",
    "replace": "{{ ('a' * 100000) | replace('', 'b' * 100000) }}",
    "join": "{{ range(100000) | join('b' * 100000) }}",
    "batch": "{{ [1] | batch(1000000000, 0) | list }}",
    "lorem": "{{ lipsum(n=10000000) }}",
    "json": "{{ [[1]] | tojson(indent=1000000000) }}",
    "concatenation": TWICE % ("'a'", "ns.x ~ ns.x") + "{{ ns.x }}",
    "sum": TWICE % ("'a'", "ns.x + ns.x") + "{{ ns.x }}",
    "list in list as json": LISTS + "{{ ns.x | tojson }}",
    "list in list as text": LISTS + "{{ ns.x | string }}",
    "flood": "{% for i in range(100000) %}{{ 'a' * 10000 }}{% endfor %}",
    "sets": "{% set ns = namespace(x='') %}{% for i in range(9999) %}"
    "{% set ns.x = ns.x ~ 'a' * i %}{% for j in range(9999) %}"
    "{% set ns.x = ns.x ~ 'a' %}{% endfor %}{% endfor %}",
}
SLOW = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "power": "{{ 2 ** (2 ** 31) % 3 }}",
    "comparison": LISTS + LISTS.replace("ns", "other") + "{{ ns.x == other.x }}",
    "digits": "{{ (7 ** 9999999) % 3 ** 9999999 }}",
}
DEEP = {
    "macro": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "block": "{% block a %}{{ self.a() }}{% endblock %}",
    "parentheses": "{{ " + "(" * 50_000 + ")" * 50_000 + " }}",
    "blocks": "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    "sums": "{{ " + "1+" * 50_000 + "1 }}",
}


@pytest.mark.parametrize("name", HUNGRY | SLOW | DEEP)
def test_a_greedy_template_is_an_error_of_the_model_and_the_next_one_works(
    chat_model, monkeypatch, name
):
    template = (HUNGRY | SLOW | DEEP)[name]
    start = time.monotonic()
    with monkeypatch.context() as impatient:
        impatient.setattr(process, "SECONDS", 0.5)
        with pytest.raises(ModelError, match="chat template of tiny (failed|was ended)"):
            chat_model(template).render_chat(HELLO)
    assert time.monotonic() - start < 30
    model = chat_model("{{ bos_token }}{{ messages[0].content }}")
    assert model.render_chat(HELLO).text == "<s>Hello"


def test_no_template_takes_the_memory_of_this_process_or_its_own(tmp_path, attempts):
    (tmp_path / "hostile.json").write_text(json.dumps(HUNGRY))
    script = """
import json, resource, sys
from mullama_lab.engine.chat import process

process.SECONDS = 1.0
process.templates.render("", {})
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), size + (300 << 20)))
for name, template in json.load(open(sys.argv[1])).items():
    def call():
        outcome = process.templates.render(template, {})
        if outcome.kind not in ("failed", "ended"):
            raise ValueError(outcome)
    attempt(name, call)
process.templates.process.close()
own = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - used
its = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
attempt("own", lambda: 1 / (own < 50 << 20))
attempt("its", lambda: 1 / (its < 300 << 20))
"""
    outcomes = attempts(script, tmp_path / "hostile.json")
    assert set(outcomes) == {*HUNGRY, "own", "its"}
    assert set(outcomes.values()) == {"fine"}


def test_where_the_system_knows_no_limit_its_size_is_watched():
    templates = process.TemplateProcess()
    request = {"template": HUNGRY["product"], "variables": {}}
    limits = {"seconds": 30, "bytes": 1 << 40, "most": 1}
    line = json.dumps({**request, **limits}).encode() + b"\n"
    with pytest.raises(Ended, match="it needed more than 100 MB of memory"):
        templates.process.ask(line, 30.0, 100 << 20)
    assert templates.render("ok", {}) == ("text", "ok")
    templates.process.close()


def test_a_template_whose_process_died_says_so_and_the_next_one_works(programs):
    templates = process.TemplateProcess()
    assert templates.render("a", {}).text == "a"
    (child,) = programs()
    child.kill()
    child.wait()
    assert templates.render("b", {}).text == "b"
    templates.process.close()


def test_what_interrupts_the_wait_ends_the_template(monkeypatch, programs):
    templates = process.TemplateProcess()
    templates.render("", {})
    (child,) = programs()

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bounded_process, "monotonic", interrupted)
    with pytest.raises(KeyboardInterrupt):
        templates.render(SLOW["loops"], {})
    assert not child.is_running()
    monkeypatch.undo()
    assert templates.render("ok", {}).text == "ok"
    templates.process.close()


def test_many_threads_may_render_at_once():
    templates = process.TemplateProcess()
    texts = {}

    def work(i):
        texts[i] = [templates.render("{{ i }}", {"i": i * n}).text for n in range(20)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    templates.process.close()
    assert texts == {i: [str(i * n) for n in range(20)] for i in range(4)}


def test_long_messages_get_more_room():
    templates = process.TemplateProcess()
    content = "word " * 4_000_000
    outcome = templates.render("{{ x ~ x }}", {"x": content})
    assert outcome.kind == "text" and len(outcome.text) == 2 * len(content)
    templates.process.close()
