"""What is measured, and how: `python -m benchmarks NAME [--quick]`. Each prints a small table and a line of JSON."""
