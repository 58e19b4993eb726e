"""Background work on evaluations. Idempotent: an evaluation that is over is left alone."""

from procrastinate.contrib.django import app

from steward.recovery import RECONNECT


@app.task(name="assurance.run_evaluation", queue="training", retry=RECONNECT)
def run_evaluation(evaluation_id: str) -> None:
    """Evaluates base and tuned and runs the gates."""
    from steward.assurance import evaluating
    from steward.runs.dispatch import holding

    with holding(evaluation_id):
        evaluating.evaluate(evaluation_id)


@app.task(name="assurance.run_compression", queue="training", retry=RECONNECT)
def run_compression(compression_id: str) -> None:
    """Measures what each way of compressing makes of a model."""
    from steward.assurance import compressing
    from steward.runs.dispatch import holding

    with holding(compression_id):
        compressing.compress(compression_id)
