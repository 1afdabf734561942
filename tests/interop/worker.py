"""A rabbitmq-arq worker that runs jobs until it is told to stop:

    worker.py AMQP_URL REDIS_URL QUEUE

The stock worker does not start on a broker without the delayed-message plugin where an unknown
type of exchange costs the connection, as on RabbitMQ 3.10: it goes on with what that left closed.
`StartingWorker` therefore leaves out the declaration of the delayed exchange and goes straight to
what the stock worker falls back to on other brokers, a queue with a time to live. Everything else
is the stock worker.
"""

import asyncio
import sys

from rabbitmq_arq import JobContext, RabbitMQSettings, Retry, Worker, WorkerSettings


class StartingWorker(Worker):
    """The stock worker, without the one declaration that keeps it from starting."""

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


async def describe(ctx: JobContext, *args, **kwargs):
    return {"args": list(args), "kwargs": kwargs, "job_id": ctx.job_id, "job_try": ctx.job_try}


async def boom(ctx: JobContext):
    raise ValueError("boom é中")


async def flaky(ctx: JobContext):
    if ctx.job_try < 2:
        raise Retry(defer=0.2)
    return {"tries": ctx.job_try}


async def unreachable(ctx: JobContext):
    raise ConnectionError("upstream is down")


async def on_startup(ctx):
    print("python worker started", file=sys.stderr, flush=True)


def main():
    amqp_url, redis_url, queue = sys.argv[1:]
    settings = WorkerSettings(
        rabbitmq_settings=RabbitMQSettings(rabbitmq_url=amqp_url),
        functions=[add, describe, boom, flaky, unreachable],
        worker_name="python",
        queue_name=queue,
        # `Retry` counts executions, so that two allow one repetition.
        max_retries=2,
        retry_backoff=0.1,
        job_result_store_url=redis_url,
        on_startup=on_startup,
    )
    asyncio.run(StartingWorker(settings).main())


if __name__ == "__main__":
    main()
