"""A rabbitmq-arq client:

    client.py AMQP_URL REDIS_URL QUEUE send       sends jobs of every kind, prints their ids by name
    client.py AMQP_URL REDIS_URL QUEUE read ID…   prints what is known of jobs, by id

Both print one JSON object. The first job that a client sends to a queue takes about 5 seconds on a
broker without the delayed-message plugin: its declaration of the delayed exchange costs the
connection.
"""

import asyncio
import json
import sys
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from rabbitmq_arq import RabbitMQClient, RabbitMQSettings


async def send(client, queue):
    async def enqueue(function, *args, **kwargs):
        job = await client.enqueue_job(function, *args, queue_name=queue, **kwargs)
        return job.job_id

    return {
        "plain": await enqueue("describe", 2, 3),
        "named": await enqueue("describe", 1, _job_id=f"{queue}-named", name="Ann", options={"a": [1]}),
        "unicode": await enqueue("describe", "é中 \u0000 \U0001f980", "\"\\/"),
        "not_json": await enqueue("describe", float("nan"), [float("inf")]),
        "types": await enqueue(
            "describe",
            (1, 2),
            Decimal("1.5"),
            datetime(2025, 1, 1, tzinfo=timezone.utc),
            2**70,
            None,
        ),
        "delayed": await enqueue("describe", _defer_by=0.5),
        "until": await enqueue("describe", _defer_until=datetime.now(timezone.utc) + timedelta(seconds=0.5)),
        "failing": await enqueue("failing"),
        "unknown": await enqueue("no_such_function"),
        "written_over": await enqueue_late(client, "describe", queue),
    }


async def enqueue_late(client, function, queue):
    """The library writes its `queued` record after the message was sent: here much later."""
    write = client._store_initial_job_state

    async def write_late(*args, **kwargs):
        await asyncio.sleep(0.5)
        await write(*args, **kwargs)

    client._store_initial_job_state = write_late
    job = await client.enqueue_job(function, queue_name=queue)
    client._store_initial_job_state = write
    return job.job_id


async def outcome(job):
    try:
        return {"value": await job.result(timeout=10)}
    except Exception as error:
        return {"raised": type(error).__name__, "text": str(error)}


async def read(client, ids):
    known = {}
    for job_id in ids:
        job = client.get_job(job_id)
        status = await client.get_job_status(job_id)
        record = await client.get_job_result(job_id)
        known[job_id] = {
            "status": status.value if status else None,
            "outcome": await outcome(job),
            "record": record.model_dump(mode="json") if record else None,
        }
    at_once = await client.get_job_results(list(ids))
    assert {job_id: record is not None for job_id, record in at_once.items()} == {
        job_id: it["record"] is not None for job_id, it in known.items()
    }, at_once
    return known


async def main():
    amqp_url, redis_url, queue, command, *ids = sys.argv[1:]
    settings = RabbitMQSettings(rabbitmq_url=amqp_url)
    async with RabbitMQClient(settings, redis_url) as client:
        printed = await (send(client, queue) if command == "send" else read(client, ids))
    print(json.dumps(printed))


asyncio.run(main())
