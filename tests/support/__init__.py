"""The test kit: processes, servers, stacks and clients for tests, benchmarks and the fault rig."""
