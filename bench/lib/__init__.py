"""What benchmarks share: conditions, servers, the stack, reports and plots."""
