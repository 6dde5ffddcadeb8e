"""The benchmarks: `python -m benchmarks NAME [--quick]` prints a small table and a line of JSON."""
