"""The one loop that generates tokens, and what feeds it, watches it and branches off it.

How a token comes about: `Session.generate` makes a Run of the request and waits for it, `_launch`
tells its watchers, and `Worker.submit` queues its lane. On the worker's thread `Worker._loop` calls
`Scheduler.tick`, which puts a batch together from all lanes, `Cache.decode` notes what each
sequence then holds, and `Batch.decode` calls llama.cpp. The row goes to the lane's `take`, which
draws.
"""
