"""arq: queue and results in Redis, no RabbitMQ. As many jobs at once as the others have."""

import asyncio
import os
import sys

import uvloop
from arq import create_pool
from arq.connections import RedisSettings

NAME = os.environ["PEER_NAME"]
SETTINGS = RedisSettings.from_dsn(os.environ["PEER_REDIS_URL"].rstrip("/"))
AT_ONCE = 512
# Each takes a connection of the pool.
SENDS_AT_ONCE = 50


async def add(ctx, a, b):
    return a + b


class WorkerSettings:
    functions = [add]
    redis_settings = SETTINGS
    queue_name = NAME
    max_jobs = AT_ONCE
    keep_result = 3600


class Peer:
    def open(self):
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.pool = self.loop.run_until_complete(create_pool(SETTINGS, default_queue_name=NAME))

    def close(self):
        self.loop.run_until_complete(self.pool.aclose())

    def send(self, count):
        async def all_of_them():
            ids = []
            while len(ids) < count:
                portion = min(SENDS_AT_ONCE, count - len(ids))
                jobs = (self.pool.enqueue_job("add", 1, 2) for _ in range(portion))
                ids += [job.job_id for job in await asyncio.gather(*jobs)]
            return ids

        return self.loop.run_until_complete(all_of_them())

    def keys(self, job_id):
        return [f"arq:result:{job_id}"]

    def has_ended(self, redis, job_id):
        return redis.exists(*self.keys(job_id))

    def round_trip(self):
        async def one():
            job = await self.pool.enqueue_job("add", 1, 2)
            return await job.result(timeout=30)

        return self.loop.run_until_complete(one())

    def worker_command(self):
        return [sys.executable, "-m", "arq", "peer_arq.WorkerSettings"]
