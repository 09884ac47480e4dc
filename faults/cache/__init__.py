"""The cache under faults: no reader who asks after a writer was answered gets what was there before."""
