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
