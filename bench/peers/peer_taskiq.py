"""taskiq with taskiq-aio-pika and taskiq-redis, on uvloop, a worker process per processor."""

import asyncio
import os
import sys

import uvloop
from taskiq_aio_pika import AioPikaBroker
from taskiq_aio_pika.exchange import Exchange
from taskiq_aio_pika.queue import Queue
from taskiq_redis import RedisAsyncResultBackend

import broker as rabbitmq

NAME = os.environ["PEER_NAME"]
AT_ONCE = 512

broker = AioPikaBroker(
    os.environ["PEER_AMQP_URL"],
    qos=AT_ONCE,
    exchange=Exchange(name=NAME),
    task_queues=[Queue(name=NAME)],
    dead_letter_queue=Queue(name=f"{NAME}.dead"),
).with_result_backend(
    RedisAsyncResultBackend(os.environ["PEER_REDIS_URL"], result_ex_time=3600, prefix_str=NAME)
)


@broker.task(task_name="add")
async def add(a: int, b: int) -> int:
    return a + b


class Peer:
    def open(self):
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(broker.startup())

    def close(self):
        self.loop.run_until_complete(broker.shutdown())
        rabbitmq.delete([NAME, f"{NAME}.dead"], [NAME])

    def send(self, count):
        async def all_of_them():
            ids = []
            while len(ids) < count:
                portion = min(AT_ONCE, count - len(ids))
                sent = await asyncio.gather(*(add.kiq(1, 2) for _ in range(portion)))
                ids += [task.task_id for task in sent]
            return ids

        return self.loop.run_until_complete(all_of_them())

    def keys(self, task_id):
        return [f"{NAME}:{task_id}"]

    def has_ended(self, redis, task_id):
        return redis.exists(*self.keys(task_id))

    def round_trip(self):
        async def one():
            task = await add.kiq(1, 2)
            return (await task.wait_result(timeout=30)).return_value

        return self.loop.run_until_complete(one())

    def worker_command(self):
        size = ["--workers", str(os.cpu_count()), "--max-async-tasks", str(AT_ONCE)]
        return [sys.executable, "-m", "taskiq", "worker", "peer_taskiq:broker", *size]
