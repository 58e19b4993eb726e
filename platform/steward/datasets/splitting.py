"""Who is trained on and who is held out.

Guarantees that a person, or a group that belongs together, is in one split only and stays there in later versions, and
that a declared split is followed. Must run inside the caller's transaction. Shares are of records, and approximate
where a unit is large.

Example: ``assign_splits(version)`` gives ``{"train": 70, "validation": 10, "test": 20}``
"""

from django.db import connection

from steward.datasets.models import DatasetVersion

# Units in the order of their keyed digest take their share of the records: 70 % training, 10 % validation, 20 % held
# out. A unit that has its split from an earlier version keeps it, so that nobody wanders into the training data.
ASSIGN_SPLITS = """
WITH placed AS (
    SELECT DISTINCT unit, split FROM datasets_subject WHERE dataset_id = %(dataset)s AND split IS NOT NULL
), units AS (
    SELECT s.unit, count(*) AS records FROM datasets_subject s JOIN datasets_record r ON r.subject_id = s.id
    WHERE s.dataset_id = %(dataset)s AND s.split IS NULL AND r.version_id = %(version)s GROUP BY s.unit
), ranked AS (
    SELECT unit, (sum(records) OVER (ORDER BY unit) - records / 2.0) / sum(records) OVER () AS middle FROM units
), decided AS (
    SELECT r.unit, coalesce(p.split, CASE WHEN middle < %(train)s THEN 'train'
        WHEN middle < %(validation)s THEN 'validation' ELSE 'test' END) AS split
    FROM ranked r LEFT JOIN placed p USING (unit)
)
UPDATE datasets_subject s SET split = d.split FROM decided d
WHERE s.dataset_id = %(dataset)s AND s.unit = d.unit AND s.split IS NULL
"""
TRAIN_SHARE, VALIDATION_SHARE = 0.7, 0.1


def assign_splits(version: DatasetVersion) -> dict[str, int]:
    """Gives each new unit of the version its split and returns the records in each."""
    with connection.cursor() as cursor:
        # No statistics are kept of rows that have not committed: the planner takes them for a handful and would
        # compare every unit with every other.
        cursor.execute("SET LOCAL enable_nestloop = off")
        cursor.execute(
            ASSIGN_SPLITS,
            {
                "dataset": version.dataset_id,
                "version": version.pk,
                "train": TRAIN_SHARE,
                "validation": TRAIN_SHARE + VALIDATION_SHARE,
            },
        )
        cursor.execute(
            "SELECT s.split, count(*) FROM datasets_record r JOIN datasets_subject s ON s.id = r.subject_id "
            "WHERE r.version_id = %s GROUP BY s.split",
            [version.pk],
        )
        counts: dict[str, int] = dict(cursor.fetchall())
        cursor.execute("SET LOCAL enable_nestloop = DEFAULT")
    return {split: counts.get(split, 0) for split in ("train", "validation", "test")}
