"""rabbitmq-arq 0.2.2, RabbitMQ and Redis. Its messages are transient: it offers nothing else.

The stock worker does not start on a broker without the delayed-message plugin where an unknown
type of exchange costs the connection; `StartingWorker` leaves that declaration out and goes
straight to what the stock worker falls back to. The client's own is left out alike.
"""

import asyncio
import os
import sys

import uvloop
from rabbitmq_arq.exceptions import ResultNotFound
from rabbitmq_arq import JobContext, RabbitMQClient, RabbitMQSettings, Worker, WorkerSettings

import broker as rabbitmq

NAME = os.environ["PEER_NAME"]
AMQP_URL = os.environ["PEER_AMQP_URL"]
REDIS_URL = os.environ["PEER_REDIS_URL"]
AT_ONCE = 512


class StartingWorker(Worker):
    async def _setup_delay_mechanism(self):
        await self.channel.declare_queue(
            self._delay_queue_name,
            durable=True,
            arguments={
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": self.rabbitmq_queue,
            },
        )
        self._use_delayed_exchange = False
        self._delay_mechanism_detected = True


async def add(ctx: JobContext, a: int, b: int):
    return a + b


def work():
    settings = WorkerSettings(
        rabbitmq_settings=RabbitMQSettings(rabbitmq_url=AMQP_URL, prefetch_count=AT_ONCE),
        functions=[add],
        worker_name=NAME,
        queue_name=NAME,
        max_concurrent_jobs=AT_ONCE,
        job_result_store_url=REDIS_URL,
        log_level="ERROR",
    )
    uvloop.install()
    asyncio.run(StartingWorker(settings).main())


class Peer:
    def open(self):
        self.loop = uvloop.new_event_loop()
        asyncio.set_event_loop(self.loop)
        client = RabbitMQClient(RabbitMQSettings(rabbitmq_url=AMQP_URL), REDIS_URL)
        self.client = self.loop.run_until_complete(client.__aenter__())

    def close(self):
        self.loop.run_until_complete(self.client.__aexit__(None, None, None))
        rabbitmq.delete([NAME, f"{NAME}.dlq", f"delay.{NAME}"])

    def send(self, count):
        async def all_of_them():
            ids = []
            while len(ids) < count:
                portion = min(AT_ONCE, count - len(ids))
                jobs = (self.client.enqueue_job("add", 1, 2, queue_name=NAME) for _ in range(portion))
                ids += [job.job_id for job in await asyncio.gather(*jobs)]
            return ids

        return self.loop.run_until_complete(all_of_them())

    def keys(self, job_id):
        return [f"rabbitmq_arq:result:{job_id}", f"rabbitmq_arq:status:{job_id}"]

    def has_ended(self, redis, job_id):
        return redis.get(f"rabbitmq_arq:status:{job_id}") == b"completed"

    def round_trip(self):
        async def one():
            job = await self.client.enqueue_job("add", 1, 2, queue_name=NAME)
            try:
                return await job.result(timeout=3)
            except ResultNotFound:
                # The client writes `queued` after it has sent the job, over the result of a
                # worker that was faster.
                return None

        return self.loop.run_until_complete(one())

    def worker_command(self):
        return [sys.executable, "-c", "import peer_rabbitmq_arq; peer_rabbitmq_arq.work()"]
