"""The one loop that generates tokens, and what feeds it, watches it and branches off it.

How a token comes about: `Session.generate` makes a Run of the request, `_see_through` has it
`_launched` and waits for it, and `Worker.submit` queues its lane. On the worker's thread
`Scheduler.tick` puts a batch together from all lanes, `Cache.decode` notes what each sequence
then holds, and `Batch.decode` calls llama.cpp. The row goes to the lane's `take`, which draws.
"""
