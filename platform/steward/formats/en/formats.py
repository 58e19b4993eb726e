"""Dates that read the same on both sides of the Atlantic, and hours that need no a.m.: `24 Nov 2026, 04:09`."""

DATE_FORMAT = "j M Y"
DATETIME_FORMAT = "j M Y, H:i"
TIME_FORMAT = "H:i"
