"""Studies: functions that answer one question each and return a table or a small result."""
