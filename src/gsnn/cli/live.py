"""The verbs of live alerts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .shared import RunPath, Trust, app, terminal


@app.command()
def watch(
    run: RunPath,
    broker: Annotated[str, typer.Option("--broker", help="host:port of Kafka, several by commas")],
    topic: Annotated[list[str], typer.Option("--topic", help="of alerts, or a pattern as 'ztf_*'; may be repeated")],
    out: Annotated[Path, typer.Option("--out", help="the folder of the answers, and of what is known of them")] = Path(
        "answers"
    ),
    to_topic: Annotated[str | None, typer.Option("--to-topic", help="answers go to this topic instead")] = None,
    webhook: Annotated[str | None, typer.Option("--webhook", help="answers are also sent to this URL")] = None,
    kafka: Annotated[
        Path | None, typer.Option("--kafka", help="a file of settings (key=value): security.protocol, ...")
    ] = None,
    schemas: Annotated[
        str | None, typer.Option("--schemas", help="a schema registry (http://...), or a folder of NUMBER.avsc")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="alerts that are answered together, at most")] = 256,
    seconds: Annotated[float, typer.Option("--seconds", help="an alert waits this long for others, at most")] = 0.25,
    nproc: Annotated[int, typer.Option("--nproc", help="processes that answer")] = 1,
    now: Annotated[bool, typer.Option("--now", help="begin now, not with what the broker still holds")] = False,
    end: Annotated[bool, typer.Option("--end", help="end when all that the broker holds is answered")] = False,
    every: Annotated[float, typer.Option("--every", help="seconds between figures")] = 10.0,
    trust: Trust = False,
) -> None:
    """Answer the alerts of a broker as they come, each exactly once; goes on where it was when typed again."""
    from ..run import Run
    from ..serve.watch import watch

    found = watch(
        Run(run, trust=trust), broker, topic, out=out, to_topic=to_topic, webhook=webhook, kafka=kafka, schemas=schemas,
        batch=batch, seconds=seconds, nproc=nproc, start="now" if now else "beginning", until_end=end, every=every,
        progress=terminal(),
    )  # fmt: skip
    print(f"{found.get('alerts', 0):,} alerts answered in {to_topic or out}, {found.get('quarantined', 0):,} set aside")


@app.command()
def replay(
    packets: Annotated[Path, typer.Argument(metavar="PACKETS", help="a folder of *.avro, or a Parquet file of them")],
    broker: Annotated[str, typer.Option("--broker", help="host:port of Kafka, several by commas")],
    topic: Annotated[str, typer.Option("--topic", help="where they go")],
    rate: Annotated[float | None, typer.Option("--rate", help="packets a second")] = None,
    speed: Annotated[float | None, typer.Option("--speed", help="times as fast as they were observed")] = None,
    repeat: Annotated[bool, typer.Option("--repeat", help="again and again, until interrupted")] = False,
    kafka: Annotated[Path | None, typer.Option("--kafka", help="a file of settings (key=value)")] = None,
) -> None:
    """A night of alert packets to a topic, as a broker sends them."""
    from ..serve.replay import replay

    sent = replay(
        packets, broker, topic, rate=rate, speed=speed, repeat=repeat, kafka=kafka, progress=terminal()
    )  # fmt: skip
    print(f"{sent:,} packets sent to {topic}")
